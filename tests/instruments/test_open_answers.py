from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.instruments import instrument, open_answers
from stages.instruments.open_answers import OpenAnswers
from stages.instruments.questionnaire import Axis, Item, Questionnaire

pytestmark = pytest.mark.usefixtures("in_root")


def asked() -> instrument.Instrument:
    items = [Item(id=f"e{d}", text=f"Statement {d}.", axis="e", direction=d, topic="t", taps="x") for d in (1, -1)]
    return instrument.of(Questionnaire(name="n", title="t", description="d", axes={"e": Axis(positive="right", low="l", high="h")}, items=tuple(items)))


def settings(**changes: object) -> OpenAnswers:
    return OpenAnswers(**{"repeats": 1, "statements": 2, "max_tokens": 60, "temperature": 0.3, "top_k": 0, "judge": None, "judge_itself": False} | changes)


class Judge:
    """Finds the option that the comment spells out."""

    fingerprint = "judge"

    def choose(self, prompts, options):
        from stages.llm.interface import Choice

        for index, prompt in enumerate(prompts):
            text = prompt[0].content
            word = next(word for word in ("disagrees", "agrees", "takes no side") if f"It {word}" in text.split("Comment:")[1].split("\n")[0])
            listed = [line for line in text.splitlines() if line[1:2] == ")"]
            yield index, Choice(tuple(float(f"It {word}" in line) for line in listed), 1.0, 1)


def measured(fake_model, *texts: str) -> dict[str, object]:
    written = open_answers.ask(fake_model(texts), asked(), settings(), 1)
    return open_answers.read(Judge(), asked(), [written])[0].figures(np.array([[0.5], [0.5]]), 0.05, 1)


def test_stances_place_a_model(fake_model) -> None:
    found = measured(fake_model, "It agrees.", "It disagrees.")
    assert found["e"]["value"] == pytest.approx(10 * 2 / 3)
    assert found["contradicts"] == pytest.approx(1 / 2)
    assert found["neither"] == pytest.approx(0)


def test_taking_no_side_counts_as_the_middle_and_is_reported(fake_model) -> None:
    found = measured(fake_model, "It takes no side.", "It takes no side.")
    assert found["e"]["value"] == pytest.approx(0)
    assert (found["valid"], found["neither"]) == pytest.approx((1, 1))


def test_refusals_and_empty_texts_are_not_judged(fake_model) -> None:
    found = measured(fake_model, "I'm sorry, I cannot say.", "")
    assert (found["valid"], found["refused"], found["unreadable"]) == pytest.approx((0, 0.5, 0.5))
    assert found["unplaced"] == "valid"


def test_several_models_texts_are_judged_together(fake_model) -> None:
    one, other = (open_answers.ask(fake_model(texts), asked(), settings(), 1) for texts in (("It agrees.", ""), ("It disagrees.", "It agrees.")))
    first, second = open_answers.read(Judge(), asked(), [one, other])
    assert first.answered.tolist() == [[True], [False]]
    assert second.values == pytest.approx(np.array([[-2 / 3], [2 / 3]]))


def test_the_judge_must_be_named_exist_and_be_another_model(tmp_path: Path) -> None:
    ours, same, other = (tmp_path / name for name in ("ours.gguf", "same.gguf", "other.gguf"))
    ours.write_text("a")
    same.write_text("a")
    other.write_text("b")
    with pytest.raises(InputError, match="needs a judge"):
        open_answers.judge_of(settings(), ours)
    with pytest.raises(InputError, match="there is no such file"):
        open_answers.judge_of(settings(judge=tmp_path / "none.gguf"), ours)
    with pytest.raises(InputError, match="is the model that is measured"):
        open_answers.judge_of(settings(judge=same), ours)
    assert open_answers.judge_of(settings(judge=same, judge_itself=True), ours) == same
    assert open_answers.judge_of(settings(judge=other), ours) == other
