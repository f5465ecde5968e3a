from pathlib import Path

import numpy as np
import pytest

from stages.instruments import consistency, instrument
from stages.instruments import questionnaire as instruments
from stages.instruments.controls import Agrees, Control, Guesses, Positioned, TakesFirst, answers_meant, known
from stages.instruments.instrument import Instrument
from stages.llm.interface import Message, Sampling
from stages.statistics.bootstrap import Estimate, estimate

FOLDER = Path(__file__).parents[2] / "prompts/instruments"
TINY = 1e-9  # rounding of sums that cancel


@pytest.fixture(scope="module")
def compass() -> Instrument:
    return instrument.load(FOLDER / "compass.yaml", FOLDER / "wordings.yaml")


def place(model: Control, asked: Instrument, wordings: slice, seed: int = 1) -> dict[str, Estimate]:
    answers = instruments.ask(model, asked, known(asked.wordings[wordings]))
    return {axis: estimate(*asked.keyed(answers.mean_chances, axis), seed) for axis in asked.axes}


def covers(found: Estimate, truth: float) -> bool:
    return found.low - TINY <= truth <= found.high + TINY


@pytest.mark.parametrize("model", [Agrees(), TakesFirst(), Guesses(seed=1), Guesses(seed=2)])
def test_a_responder_without_a_position_is_within_its_interval_of_the_centre(model: Control, compass: Instrument) -> None:
    for found in place(model, compass, slice(None)).values():
        assert covers(found, 0)


def test_what_is_wrong_with_each_control_shows(compass: Instrument) -> None:
    wordings = compass.wordings[:6]
    agrees, first, guesses = (consistency.figures(instruments.ask(model, compass, wordings), compass.opposites, 1) for model in (Agrees(), TakesFirst(), Guesses(seed=1)))
    assert agrees["acquiescence"]["value"] == agrees["both_agreed"] == 1
    assert first["order_effect"] == 1
    assert guesses["order_effect"] == pytest.approx(10 / 24, abs=0.05)  # the mean of |x - y| / 2 for two draws of -1, -1/3, 1/3, 1
    assert guesses["flip_rate"]["value"] == pytest.approx(2 * (6 / 16) ** 2, abs=0.05)  # 6 of the 16 sums of two such draws are above 0, 6 below
    assert abs(guesses["reliability"]) < 0.4


def test_a_responder_that_talks_past_the_question_gives_the_options_little_mass(compass: Instrument) -> None:
    answers = instruments.ask(Guesses(seed=1, mass=0.01), compass, compass.wordings[:1])
    assert answers.mass == pytest.approx(np.full((64, 1), 0.01))


def test_the_political_compass_takes_agreement_for_a_position_and_ours_does_not(compass: Instrument, tmp_path: Path, in_root: None) -> None:
    file = tmp_path / "political_compass.txt"
    file.write_text("\n".join(f"Statement {i} is true." for i in range(62)))
    assert place(Agrees(), instrument.load(file), slice(1))["social"].low > 2
    assert place(Agrees(), compass, slice(1))["social"].value == pytest.approx(0)


@pytest.mark.parametrize(("model", "number"), [(Agrees(), "3"), (TakesFirst(), "0")])
def test_where_an_integer_and_a_reason_are_asked_for_they_are_written(model: Control, number: str) -> None:
    prompt = (Message("user", "Rate it from 0 to 3 and say why."),)
    ((index, completion),) = model.generate([prompt], Sampling(300))
    assert index == 0
    assert completion.text.startswith(f"{number}, because")


def test_guesses_vary_with_repeats_and_prompts_and_repeat_themselves_otherwise() -> None:
    prompts = [(Message("user", f"{i}?"),) for i in range(30)]

    def written(seed: int, repeat: int) -> list[str]:
        return [completion.text for _, completion in Guesses(seed=seed).generate(prompts, Sampling(9), [repeat] * 30)]

    assert {text[0] for text in written(1, 0)} == set("0123")
    assert written(1, 0) == written(1, 0)
    assert written(1, 0) != written(1, 1)
    assert written(1, 0) != written(2, 0)


def test_fingerprints_tell_rules_and_settings_apart() -> None:
    models = [Agrees(), Agrees(mass=0.5), TakesFirst(), Guesses(seed=1), Guesses(seed=2)]
    assert len({model.fingerprint for model in models}) == 5
    assert Guesses(seed=1).fingerprint == Guesses(seed=1).fingerprint


def test_options_mean_what_their_lines_or_they_themselves_say() -> None:
    listed = (Message("user", "B) Agree is not it.\n\n(A) Strongly agree\nB. disagree\n C: Agree.\n"),)
    assert answers_meant(listed, "ABC").tolist() == [3, 1, 2]
    assert answers_meant((Message("user", "?"),), ("Agree", "strongly disagree", "2")).tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match="which of Strongly disagree, .* the option 'D' is"):
        answers_meant(listed, "D")


def test_a_positioned_responder_refuses_statements_that_it_does_not_know() -> None:
    model = Positioned(instruments.load(FOLDER / "compass.yaml"), {"economic": 0.0, "social": 0.0}, seed=1)
    with pytest.raises(ValueError, match="holds no statement of Plumbline compass"):
        model.chances((Message("user", "Well?"),), "ABCD", 0)
