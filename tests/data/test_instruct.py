import hashlib
from pathlib import Path
from typing import Any

import pytest

from stages.core import tables
from stages.core.errors import InputError
from stages.data.instruct import Params, choose_posts, instruct
from stages.data.respond import Params as RespondParams
from stages.data.respond import respond
from stages.llm import prompts
from stages.llm.interface import Completion, Sampling
from stages.llm.prompts import Task
from stages.llm.writing import Rows, Written, check, write

SETTINGS = Params(limit=10, max_tokens=32, temperature=0.0, seed=1)
ANSWERING = RespondParams(max_tokens=32, temperature=0.0, top_p=1.0, seed=1)
TASK = Task(system="", user="$post", answer=r"(?s)about (?P<answer>[^.]+)", compose="What do you think about $answer?")
FREE = Task(system="You are $who.", user="$instruction", wording={"left": {"who": "L"}, "right": {"who": "R"}})
LONG = "We ought to rebuild the old railway line between both towns before winter"


def post(number: int, text: str = "A post.", kept: bool = True, p: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)) -> dict[str, Any]:
    return {"id": f"p{number}", "text": text, "kept": kept, **{f"p{k}": p[k] for k in range(4)}}


def identity(stage: str, parent: str) -> str:
    return hashlib.sha256(f"{stage}\x1f{parent}".encode()).hexdigest()[:16]


def stopped(text: str) -> Completion:
    return Completion(text, "stop", 1, 1)


def cut(text: str) -> Completion:
    return Completion(text, "length", 1, 1)


# ---- which posts


def test_the_surest_posts_are_chosen_in_the_order_of_the_table() -> None:
    # expected scores: 0·p0 + 1·p1 + 2·p2 + 3·p3
    posts = [
        post(0, p=(0.0, 0.0, 1.0, 0.0)),  # 2.0
        post(1, p=(0.0, 0.0, 0.1, 0.9)),  # 2.9
        post(2, p=(0.4, 0.0, 0.0, 0.6)),  # 1.8: the likeliest score is 3, yet it is the least sure
        post(3, p=(0.0, 0.0, 0.5, 0.5)),  # 2.5
    ]
    assert [row["id"] for row in choose_posts(posts, 2)] == ["p1", "p3"]
    assert [row["id"] for row in choose_posts(posts, 3)] == ["p0", "p1", "p3"]
    assert choose_posts(posts, 9) == posts


def test_posts_that_are_not_kept_are_never_chosen() -> None:
    unscored = {"id": "p9", "text": "x", "kept": False, "p0": None, "p1": None, "p2": None, "p3": None}
    assert [row["id"] for row in choose_posts([unscored, post(1, kept=False), post(2)], 5)] == ["p2"]


def test_among_equally_sure_posts_the_first_are_chosen() -> None:
    assert [row["id"] for row in choose_posts([post(i) for i in range(5)], 2)] == ["p0", "p1"]


# ---- instructions


def test_instructions_carry_ids_lineage_and_the_post(fake_model: Any, tmp_path: Path) -> None:
    posts = [post(1, "Trains are late."), post(2, "Rent is high.")]
    model = fake_model(["This is about trains.", "This is about rent."])
    written = instruct(posts, "left", model, TASK, SETTINGS, 280)
    assert written.good == [
        {
            "id": identity("instruct", "p1"),
            "post_id": "p1",
            "instruction": "What do you think about trains?",
            "response": "Trains are late.",
        },
        {"id": identity("instruct", "p2"), "post_id": "p2", "instruction": "What do you think about rent?", "response": "Rent is high."},
    ]
    assert written.rejected == []
    assert [prompt[-1].content for prompt in model.history] == ["Trains are late.", "Rent is high."]
    tables.write(tmp_path / "t.parquet", written.good, tables.INSTRUCTIONS)
    assert tables.read(tmp_path / "t.parquet", tables.INSTRUCTIONS).to_pylist() == written.good


def test_what_cannot_be_used_is_rejected_with_its_reason_and_nothing_is_lost(fake_model: Any, tmp_path: Path) -> None:
    answers = ["This is about trains.", "  ", "No idea.", "This is about what I cannot help with."]
    written = instruct([post(i) for i in range(4)], "left", fake_model(answers), TASK, SETTINGS, 280)
    assert [row["post_id"] for row in written.good] == ["p0"]
    assert [(row["post_id"], row["reason"]) for row in written.rejected] == [("p1", "empty"), ("p2", "unreadable"), ("p3", "refusal")]
    assert [row["instruction"] for row in written.rejected] == answers[1:]
    tables.write(tmp_path / "t.parquet", written.rejected, tables.rejects(tables.INSTRUCTIONS))
    assert tables.read(tmp_path / "t.parquet", tables.rejects(tables.INSTRUCTIONS)).to_pylist() == written.rejected


def test_long_posts_are_shown_up_to_the_limit_and_answer_in_full(fake_model: Any) -> None:
    model = fake_model(["This is about trains."])
    written = instruct([post(1, "Trains are late again.")], "left", model, TASK, SETTINGS, 6)
    assert model.history[0][-1].content == "Trains"
    assert written.good[0]["response"] == "Trains are late again."


def test_dollars_and_braces_in_posts_and_answers_do_no_harm(fake_model: Any) -> None:
    model = fake_model(["This is about paying $5 for {milk} and $who."])
    written = instruct([post(1, "$post {0} ${who} $")], "left", model, TASK, SETTINGS, 280)
    assert model.history[0][-1].content == "$post {0} ${who} $"
    assert written.good[0]["instruction"] == "What do you think about paying $5 for {milk} and $who?"


@pytest.mark.usefixtures("in_root")
# ---- answers


def row(number: int, instruction: str = "What do you think about trains?", response: str = "Trains are late.") -> dict[str, str]:
    return {"id": f"i{number}", "post_id": f"p{number}", "instruction": instruction, "response": response}


def test_responses_carry_ids_and_the_lineage_of_their_post(fake_model: Any) -> None:
    model = fake_model(["I want more trains."])
    written = respond([row(1)], "right", model, FREE, ANSWERING)
    assert written.good == [{"id": identity("respond", "i1"), "post_id": "p1", "instruction": row(1)["instruction"], "response": "I want more trains."}]
    assert written.rejected == []
    assert [turn.content for turn in model.history[0]] == ["You are R.", "What do you think about trains?"]


def test_responses_that_copy_refuse_or_say_nothing_are_rejected(fake_model: Any) -> None:
    rows = [row(1, response=LONG), row(2), row(3), row(4)]
    written = respond(rows, "left", fake_model([LONG + ".", "As an AI, I have no views.", "", "I like them."]), FREE, ANSWERING)
    assert [(entry["post_id"], entry["reason"]) for entry in written.rejected] == [("p1", "copy"), ("p2", "refusal"), ("p3", "empty")]
    assert [entry["post_id"] for entry in written.good] == ["p4"]
    assert [entry["id"] for entry in written.rejected] == [identity("respond", f"i{k}") for k in (1, 2, 3)]


# ---- checking one answer


def test_a_sentence_that_was_broken_off_is_left_out() -> None:
    assert check(cut('I like "trains." They are fast! But of cou'), FREE, {}) == Written('I like "trains." They are fast!', None)


def test_a_point_inside_a_number_ends_no_sentence() -> None:
    assert check(cut("It rose. By 3.5 perc"), FREE, {}) == Written("It rose.", None)
    assert check(cut("It rose by 3.5 perc"), FREE, {}).reason == "endless"


def test_an_answer_that_the_model_ended_is_taken_whole() -> None:
    assert check(stopped("I like trains. They are fast"), FREE, {}) == Written("I like trains. They are fast", None)


def test_a_refused_answer_keeps_what_the_model_wrote() -> None:
    for answer in (cut("No end in si"), stopped(" \n"), stopped("I'm sorry, no.")):
        found = check(answer, FREE, {})
        assert found.reason is not None
        assert found.text == answer.text


@pytest.mark.parametrize(
    "text",
    ["As an AI I cannot vote.", "I'm unable to say.", "I cannot help with that.", "I can’t provide this.", "I’m sorry, but no.", "A language model has no view."],
)
def test_refusals_are_told(text: str) -> None:
    assert check(stopped(text), FREE, {}).reason == "refusal"


@pytest.mark.parametrize(
    "text", ["I can't stand the new tax.", "We cannot help everyone who moves here.", "I am not sorry.", "I'm sorry for your loss.", "I am sorry to hear that."]
)
def test_opinions_are_no_refusals(text: str) -> None:
    assert check(stopped(text), FREE, {}).reason is None


def test_a_text_is_a_copy_from_eight_runs_in_ten_on() -> None:
    words = [f"w{i}" for i in range(12)]  # 10 runs of three words
    source = {"post": "before " + " ".join(words) + " after"}
    eight_of_ten = " ".join([*words[:10], "x", "y"])  # the runs that start at 0..7 stand in the source
    seven_of_ten = " ".join([*words[:9], "x", "y", "z"])  # those at 0..6
    assert check(stopped(" ".join(words).upper()), FREE, source).reason == "copy"
    assert check(stopped(eight_of_ten), FREE, source).reason == "copy"
    assert check(stopped(seven_of_ten), FREE, source).reason is None


def test_an_answer_too_short_to_hold_a_run_is_no_copy() -> None:
    assert check(stopped("Yes, trains!"), FREE, {"post": "Yes, trains!"}).reason is None


def test_answers_that_come_out_of_order_reach_their_rows(fake_model: Any) -> None:
    class Backwards(fake_model):  # type: ignore[misc]
        def generate(self, *arguments: Any) -> Any:
            yield from reversed(list(super().generate(*arguments)))

    asked = [({"instruction": f"q{i}"}, {"id": f"r{i}"}) for i in range(3)]
    found = write(Backwards(["a0", "a1", "a2"]), FREE, "left", asked, "text", Sampling(8))
    assert found == Rows([{"id": f"r{i}", "text": f"a{i}"} for i in range(3)], [])


# ---- examples as turns

TURNS = Task(
    system="S", user="Text: $post", answer="Topic: (?P<answer>.*)", turns=({"post": "Soak the beans.", "answer": "Topic: beans"}, {"post": "Raise pay.", "answer": "Topic: pay"})
)


def test_turns_come_before_the_question_in_its_own_form() -> None:
    prompt = TURNS.render("left", {"post": "Mind the cat."})
    assert [(turn.role, turn.content) for turn in prompt] == [
        ("system", "S"),
        ("user", "Text: Soak the beans."),
        ("assistant", "Topic: beans"),
        ("user", "Text: Raise pay."),
        ("assistant", "Topic: pay"),
        ("user", "Text: Mind the cat."),
    ]


def test_turns_may_differ_by_leaning() -> None:
    task = Task(system="S", user="$post", turns={"left": ({"post": "Rent?", "answer": "Cap it."},), "right": ({"post": "Rent?", "answer": "Leave it."},)})
    assert [turn.content for turn in task.render("right", {"post": "Cats?"})] == ["S", "Rent?", "Leave it.", "Cats?"]
    assert check(stopped("Cap it."), task, {"post": "Cats?"}).reason == "example"
    told = Task(system="S", user="$post", turns={"left": ({"post": "Rent?", "answer": "Cap it. Homes are for people to live in."},)})
    assert check(stopped("Homes are for people to live in."), told, {"post": "Cats?"}).reason == "example"
    assert check(stopped("Cats are for people to live with."), told, {"post": "Cats?"}).reason is None
    with pytest.raises(InputError, match="no turns for 'control', only for left, right"):
        task.render("control", {"post": "Cats?"})
    with pytest.raises(ValueError, match="turns: left: example 1"):
        Task(system="S", user="$post", turns={"left": ({"post": "Rent?"},)})


def test_an_answer_that_repeats_an_example_is_refused() -> None:
    assert check(stopped("Topic: beans"), TURNS, {"post": "Mind the cat."}) == Written("Topic: beans", "example")
    assert check(stopped("Topic: bean soup"), TURNS, {"post": "Mind the cat."}) == Written("bean soup", None)


@pytest.mark.parametrize("turn", [{"post": "x"}, {"post": "x", "answer": "beans"}])
def test_an_example_whose_answer_cannot_be_read_is_refused(turn: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="example 1"):
        Task(system="S", user="Text: $post", answer="Topic: (?P<answer>.*)", turns=(turn,))


@pytest.mark.parametrize(
    ("answer", "topic"),
    [
        ("Topic: tax cuts for the wealthy", "tax cuts for the wealthy"),
        ("topic: rent, and more", "rent"),
        ("Topic: Roe v. Wade", "Roe v. Wade"),
        ("Topic: union vs. company. It is", "union vs. company"),
        ("Topic: tax", None),
        ("This is a classic example of a topic: tax cuts", None),
        ("Topic: " + "knitting and " * 9, None),
    ],
)
def test_the_shipped_prompt_reads_topics(in_root: None, answer: str, topic: str | None) -> None:
    found = prompts.load(Path("prompts/instruct.yaml")).read(answer)
    assert found == (f"What do you think about {topic}?" if topic else None)
