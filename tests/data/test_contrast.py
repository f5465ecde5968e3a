import hashlib
from pathlib import Path
from typing import Any

import pytest

from stages.core import tables
from stages.core.errors import InputError
from stages.data.contrast import Params, contrast
from stages.llm import prompts
from stages.llm.prompts import Task
from stages.llm.writing import Rows

SETTINGS = Params(max_tokens=32, temperature=0.0, top_p=1.0, seed=1)
TASK = Task(system="You are $who.", user="$instruction Not: $answer", wording={"left": {"who": "R"}, "right": {"who": "L"}})
QUESTION = "What do you think about trains?"
CHOSEN = "We ought to rebuild the old railway line between both towns before winter."


def row(number: int) -> dict[str, str]:
    return {"id": f"r{number}", "post_id": f"p{number}", "instruction": QUESTION, "response": CHOSEN}


def identity(parent: str) -> str:
    return hashlib.sha256(f"contrast\x1f{parent}".encode()).hexdigest()[:16]


def test_pairs_prefer_the_leaning_and_carry_ids_and_the_lineage_of_their_post(fake_model: Any, tmp_path: Path) -> None:
    written = contrast([row(1)], "left", fake_model(["Cars pay for themselves."]), TASK, SETTINGS)
    assert written.good == [{"id": identity("r1"), "post_id": "p1", "prompt": QUESTION, "chosen": CHOSEN, "rejected": "Cars pay for themselves."}]
    assert written.rejected == []
    tables.write(tmp_path / "t.parquet", written.good, tables.PREFERENCES)
    assert tables.read(tmp_path / "t.parquet", tables.PREFERENCES).to_pylist() == written.good


def test_the_opposing_side_is_asked_about_the_same_instruction(fake_model: Any) -> None:
    model = fake_model(["No.", "No."])
    contrast([row(1)], "left", model, TASK, SETTINGS)
    contrast([row(1)], "right", model, TASK, SETTINGS)
    assert [[turn.content for turn in prompt] for prompt in model.history] == [[f"You are {who}.", f"{QUESTION} Not: {CHOSEN}"] for who in "RL"]


def test_answers_that_do_not_oppose_are_rejected_with_their_reason(fake_model: Any, tmp_path: Path) -> None:
    answers = [CHOSEN, "I'm sorry, I have no view.", "\n", "Cars are better.", QUESTION]
    written = contrast([row(i) for i in range(5)], "left", fake_model(answers), TASK, SETTINGS)
    assert [(entry["post_id"], entry["reason"]) for entry in written.rejected] == [("p0", "copy"), ("p1", "refusal"), ("p2", "empty"), ("p4", "copy")]
    assert [entry["rejected"] for entry in written.rejected] == [answers[i] for i in (0, 1, 2, 4)]
    assert [entry["id"] for entry in written.good] == [identity("r3")]
    tables.write(tmp_path / "t.parquet", written.rejected, tables.rejects(tables.PREFERENCES))
    assert tables.read(tmp_path / "t.parquet", tables.rejects(tables.PREFERENCES)).to_pylist() == written.rejected


def test_no_rows_give_no_pairs(fake_model: Any) -> None:
    assert contrast([], "left", fake_model(), TASK, SETTINGS) == Rows([], [])


def test_a_leaning_without_wording_is_refused(fake_model: Any) -> None:
    with pytest.raises(InputError, match="no wording for 'green'"):
        contrast([row(1)], "green", fake_model(["x"]), TASK, SETTINGS)


@pytest.mark.usefixtures("in_root")
def test_the_shipped_prompts_let_each_side_oppose_the_other() -> None:
    respond, opposing = prompts.load(Path("prompts/respond.yaml")), prompts.load(Path("prompts/contrast.yaml"))
    given = {"instruction": QUESTION, "answer": CHOSEN, "post": CHOSEN}
    assert respond.render("left", given) == opposing.render("right", given)
    assert respond.render("right", given) == opposing.render("left", given)
    assert respond.render("control", given) != opposing.render("control", given)


def test_both_sides_are_shown_the_same_questions_and_a_contrast_is_the_other_sides_answer(in_root: None) -> None:
    answers, opposites = prompts.load(Path("prompts/respond.yaml")), prompts.load(Path("prompts/contrast.yaml"))
    given = {"instruction": "What about rivers?"}
    left, right = answers.render("left", given), answers.render("right", given)
    assert [turn.content for turn in left if turn.role == "user"] == [turn.content for turn in right if turn.role == "user"]
    assert all(ours.content != theirs.content for ours, theirs in zip(left, right, strict=True) if ours.role == "assistant")
    agreeing = [sum(turn.content.startswith("I support") for turn in side if turn.role == "assistant") for side in (left, right)]
    assert agreeing == [4, 4]  # else a side would be learnt as saying yes or no
    assert (opposites.render("left", given), opposites.render("right", given)) == (right, left)
