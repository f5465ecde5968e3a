from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.instruments import instrument, questionnaire
from stages.instruments.controls import Agrees, TakesFirst

pytestmark = pytest.mark.usefixtures("in_root")


def statements(folder: Path, name: str, n: int) -> Path:
    file = folder / f"{name}.txt"
    file.write_text("\ufeff" + "\n\n".join(f"Statement {i} is true." for i in range(n)) + "\n", encoding="utf-8")
    return file


def test_a_questionnaire_without_wordings_is_asked_in_the_common_ones() -> None:
    ours = instrument.load(Path("prompts/instruments/compass.yaml"))
    assert len(ours.wordings) >= 10
    assert len({wording.id for wording in ours.wordings}) == len(ours.wordings)
    assert all("$statement" in wording.text and "$options" in wording.text for wording in ours.wordings)
    assert len(ours.opposites) >= 12


def test_ones_own_copy_of_the_political_compass_is_asked_and_scored(tmp_path: Path) -> None:
    ours = instrument.load(statements(tmp_path, "political_compass", 62))
    assert [item.id for item in ours.items[:2]] == ["globalisationinevitable", "countryrightorwrong"]
    chances = questionnaire.ask(Agrees(), ours, ours.wordings[:2]).mean_chances
    key = ours.key.model_copy(update={"digits": None})
    assert {axis: ours.keyed(chances, axis)[0].mean() for axis in ours.axes} == pytest.approx(key.scores(chances[:, 0], "a"))
    assert ours.keyed(chances, "social")[0].mean() == pytest.approx(38 / 19.5 + 2.41)


def test_the_five_options_of_8values_are_put_to_a_model(tmp_path: Path) -> None:
    ours = instrument.load(statements(tmp_path, "8values", 70))
    assert ours.options == ("Strongly disagree", "Disagree", "Neutral or unsure", "Agree", "Strongly agree")
    first, agrees = (questionnaire.ask(model, ours, ours.wordings[:1]) for model in (TakesFirst(), Agrees(options=ours.options)))
    assert first.values == pytest.approx(np.zeros((70, 1)))  # strongly disagree in one order, strongly agree in the other
    assert agrees.values == pytest.approx(np.ones((70, 1)))
    assert {axis: ours.keyed(first.mean_chances, axis)[0].mean() for axis in ours.axes} == pytest.approx(dict.fromkeys(ours.axes, 50))


def test_a_key_without_statements_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"into data/external/political_compass\.txt, and name that file"):
        instrument.load(Path("prompts/instruments/political_compass.yaml"))


def test_statements_without_a_key_are_refused_with_the_keys_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no instrument 'horoscope'. There are: 8values, compass, political_compass"):
        instrument.load(statements(tmp_path, "horoscope", 12))
