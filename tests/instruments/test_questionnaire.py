from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.instruments import instrument
from stages.instruments import questionnaire as instruments
from stages.instruments.questionnaire import Axis, Item, Questionnaire, Wording
from stages.llm.interface import Prompt


def questionnaire() -> Questionnaire:
    axis = Axis(positive="right", low="left", high="right")
    items = [
        Item(id="up", text="Up is good.", axis="e", direction=1, topic="t", taps="x"),
        Item(id="down", text="Down is good.", axis="e", direction=-1, topic="t", taps="x", negates="up"),
        Item(id="more", text="More.", axis="s", direction=1, topic="t", taps="x"),
        Item(id="less", text="Less.", axis="s", direction=-1, topic="t", taps="x"),
    ]
    wordings = (Wording(id="a", text="$statement\n$options"), Wording(id="b", text="Well? $statement\n$options"))
    return Questionnaire(name="n", title="t", description="d", axes={"e": axis, "s": axis}, items=tuple(items), wordings=wordings)


class Responder:
    """Answers by a rule: statement and label -> weight."""

    fingerprint = "rule"

    def __init__(self, rule) -> None:
        self.rule = rule

    def choose(self, prompts: list[Prompt], options: list[list[str]]):
        from stages.llm.interface import Choice

        for index, prompt in enumerate(prompts):
            labels = {option: option for option in options[index]}
            labels |= dict(line.split(") ") for line in prompt[-1].content.splitlines() if line[1:2] == ")")
            weights = np.array([self.rule(prompt[-1].content, labels[letter], letter) for letter in options[index]], dtype=float)
            yield index, Choice(tuple(weights / weights.sum()), 0.5, 1)


def scores(rule) -> dict[str, float]:
    asked = instrument.of(questionnaire())
    found = instruments.ask(Responder(rule), asked, asked.wordings)
    return {axis: float(asked.keyed(found.mean_chances, axis)[0].mean()) for axis in ("e", "s")}


def test_a_model_that_always_agrees_is_at_the_centre() -> None:
    assert scores(lambda text, label, letter: label == "Strongly agree") == {"e": 0, "s": 0}


def test_a_model_that_always_takes_the_first_letter_is_at_the_centre() -> None:
    found = scores(lambda text, label, letter: letter == "A")
    assert found == pytest.approx({"e": 0, "s": 0})


def test_the_ends_of_an_axis_are_reached() -> None:
    def right(text: str, label: str, letter: str) -> bool:
        return label == ("Strongly agree" if "Up" in text or "More" in text else "Strongly disagree")

    assert scores(right) == pytest.approx({"e": 10, "s": 10})


def test_disagree_counts_a_third() -> None:
    found = instruments.ask(Responder(lambda text, label, letter: label == "Disagree"), questionnaire(), questionnaire().wordings)
    assert found.values == pytest.approx(np.full((4, 2), -1 / 3))
    assert found.mass == pytest.approx(np.full((4, 2), 0.5))


def test_options_may_be_words_and_five() -> None:
    five = ("No!", "No", "Well", "Yes", "Yes!")
    wordings = (Wording(id="words", text="$options\n$statement", answer="words"), Wording(id="letters", text="$options\n$statement"))
    asked = questionnaire().model_copy(update={"options": five, "wordings": wordings})
    found = instruments.ask(Responder(lambda text, label, letter: label == "Yes"), asked, wordings)
    assert found.values == pytest.approx(np.full((4, 2), 0.5))


def test_words_are_listed_without_letters(fake_model) -> None:
    model = fake_model(choices=[[0.25] * 4] * 2)
    only = questionnaire().model_copy(update={"items": questionnaire().items[:1]})
    instruments.ask(model, only, [Wording(id="w", text="$options\n$statement", answer="words")])
    assert [prompt[0].content.splitlines()[0] for prompt in model.history] == ["Strongly disagree", "Strongly agree"]


def test_a_wording_may_call_the_answers_by_names_of_its_own(fake_model) -> None:
    own = Wording(id="w", text="$options\n$statement", answer="words", scale=("NO", "no", "well", "yes", "YES"))
    four, five = fake_model(choices=[[0, 0, 0.5, 0.5]] * 2), fake_model(choices=[[0, 0, 0, 1, 0]] * 2)
    only = questionnaire().model_copy(update={"items": questionnaire().items[:1]})
    found = instruments.ask(four, only, [own])
    assert [prompt[0].content.splitlines()[:4] for prompt in four.history] == [["NO", "no", "yes", "YES"], ["YES", "yes", "no", "NO"]]
    assert found.chances[0, 0].tolist() == [[0, 0, 0.5, 0.5], [0.5, 0.5, 0, 0]]
    instruments.ask(five, only.model_copy(update={"options": ("a", "b", "c", "d", "e")}), [own])
    assert five.history[0][0].content.splitlines()[:5] == list(own.scale)


def test_a_wording_s_own_scale_has_a_middle() -> None:
    with pytest.raises(ValueError, match="needs 5 answers"):
        Wording(id="w", text="$options", scale=("NO", "no", "yes", "YES"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": [{"id": "up", "text": "t", "axis": "nowhere", "direction": 1, "topic": "t", "taps": "x"}]}, "nowhere"),
        ({"items": [{"id": "up", "text": "t", "axis": "e", "direction": 1, "topic": "t", "taps": "x", "negates": "gone"}]}, "gone"),
        ({"items": [{"id": "up", "text": "t", "axis": "e", "direction": 1, "topic": "t", "taps": "x"}] * 2}, "more than one has up"),
        ({"items": [{"id": "up", "text": "t", "axis": "e", "direction": 2, "topic": "t", "taps": "x"}]}, "direction"),
    ],
)
def test_a_wrong_instrument_is_refused_with_its_place(tmp_path: Path, change: dict[str, object], message: str) -> None:
    import json

    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(questionnaire().model_dump(mode="json") | change))
    with pytest.raises(InputError, match=message):
        instruments.load(file)
