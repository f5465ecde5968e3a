from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.core.params import parse
from stages.instruments import keys
from stages.instruments import questionnaire as instruments
from stages.instruments.keys import Key

FOLDER = Path(__file__).parents[2] / "prompts/instruments"


def key(name: str) -> Key:
    return keys.load(name, FOLDER)


def sheet(answers: list[int], n: int) -> np.ndarray:
    return np.eye(n)[answers]


def test_the_political_compass_gives_its_check_values() -> None:
    instrument = key("political_compass")
    found = [instrument.scores(sheet([answer] * 62, 4), "a") for answer in range(4)]
    assert [(one["economic"], one["social"]) for one in found] == [(0.01, -4.36), (-0.24, -2.41), (0.38, 2.41), (0.01, 4.36)]


def test_silence_looks_authoritarian_on_the_political_compass() -> None:
    assert key("political_compass").scores(np.zeros((62, 4)), "a") == {"economic": 0.38, "social": 2.41}


def test_the_items_of_the_political_compass_are_counted() -> None:
    instrument = key("political_compass")
    economic, social = (instrument.points("a", axis).any(axis=1) for axis in ("economic", "social"))
    assert (len(instrument.items), economic.sum(), social.sum()) == (62, 18, 43)
    assert np.flatnonzero(~(economic | social)).tolist() == [20]


def test_both_published_sets_of_weights_agree_and_spread_as_published() -> None:
    instrument, random = key("political_compass"), np.random.default_rng(1)
    found = []
    for _ in range(10_000):
        answers = sheet(random.integers(4, size=62), 4)
        scores = [instrument.scores(answers, weights) for weights in ("a", "b")]
        found.append([[score["economic"], score["social"]] for score in scores])
    by_set = np.array(found)  # [sheets, sets, axes]
    assert np.abs(by_set[:, 0] - by_set[:, 1]).max() <= 0.02
    assert by_set[:, 0].std(axis=0) == pytest.approx([1.96, 1.23], abs=0.03)


def test_the_political_compass_reaches_its_ends_but_for_rounding() -> None:
    instrument = key("political_compass")
    for axis in ("economic", "social"):
        points = instrument.points("b", axis)
        assert instrument.scores(sheet(points.argmax(axis=1), 4), "b")[axis] == 10
        assert instrument.scores(sheet(points.argmin(axis=1), 4), "b")[axis] == -10


def test_8values_has_its_published_sums_of_effects() -> None:
    instrument = key("8values")
    assert len(instrument.items) == 70
    sums = {axis: np.abs(instrument.points("site", axis)[:, -1]).sum() for axis in instrument.axes}
    assert sums == {"econ": 195, "dipl": 225, "govt": 320, "scty": 292}


def test_8values_runs_from_0_to_100_and_reaches_both() -> None:
    instrument, random = key("8values"), np.random.default_rng(2)
    for axis in instrument.axes:
        points = instrument.points("site", axis)
        assert instrument.scores(sheet(points.argmax(axis=1), 5), "site")[axis] == 100
        assert instrument.scores(sheet(points.argmin(axis=1), 5), "site")[axis] == 0
    for _ in range(1000):
        scores = instrument.scores(sheet(random.integers(5, size=70), 5), "site")
        assert all(0 <= score <= 100 for score in scores.values())


@pytest.mark.parametrize(("name", "weights"), [("8values", "site"), ("compass", "own"), ("political_compass", "b")])
def test_no_answers_lead_beyond_the_bounds_of_an_axis_and_some_reach_them(name: str, weights: str) -> None:
    instrument, random = key(name), np.random.default_rng(3)
    k = len(instrument.answers)
    for axis in instrument.axes:
        points, (least, most) = instrument.points(weights, axis), instrument.bounds(weights, axis)
        ends = [sheet(found, k)[:, None] for found in (points.argmin(axis=1), points.argmax(axis=1))]
        assert [instrument.keyed(end, weights, axis)[0].mean() for end in ends] == pytest.approx([least, most])
        anyhow = [instrument.keyed(sheet(random.integers(k, size=len(points)), k)[:, None], weights, axis)[0].mean() for _ in range(100)]
        assert least <= min(anyhow) <= max(anyhow) <= most
    assert name == "political_compass" or instrument.bounds(weights, next(iter(instrument.axes))) == pytest.approx((0, 100) if name == "8values" else (-10, 10))


def test_neutral_and_skipped_are_both_the_middle_of_8values() -> None:
    middle = dict.fromkeys(("econ", "dipl", "govt", "scty"), 50)
    assert key("8values").scores(sheet([2] * 70, 5), "site") == middle
    assert key("8values").scores(np.zeros((70, 5)), "site") == middle


def test_our_compass_is_the_mean_of_what_was_answered() -> None:
    instrument = key("compass")
    answers = np.zeros((64, 4))
    economic = np.flatnonzero(instrument.points("own", "economic").any(axis=1))
    right = instrument.points("own", "economic")[economic, 3] > 0
    for item, agrees in zip(economic[:4], right[:4], strict=True):
        answers[item, 3 if agrees else 1] = 1  # strongly for the right, or against the left but not strongly
    expected = 10 * np.mean(np.where(right[:4], 1, 1 / 3))
    assert instrument.scores(answers, "own") == {"economic": pytest.approx(expected)}


def test_the_implied_key_scores_ten_times_the_mean_of_answer_times_direction() -> None:
    questionnaire = instruments.load(FOLDER / "compass.yaml")
    chances = np.random.default_rng(3).dirichlet(np.ones(4), size=(64, 2))
    directions = np.array([item.direction for item in questionnaire.items])
    for axis in questionnaire.axes:
        rows = np.array([item.axis == axis for item in questionnaire.items])
        values, strata = key("compass").keyed(chances, "own", axis)
        assert values == pytest.approx(10 * (chances @ [-1, -1 / 3, 1 / 3, 1])[rows] * directions[rows, None])
        assert strata.tolist() == directions[rows].tolist()


def test_a_missing_answer_is_missing_from_its_axes_alone() -> None:
    chances = np.full((64, 1, 4), 0.25)
    chances[0] = np.nan
    missing = [int(np.isnan(key("compass").keyed(chances, "own", axis)[0]).sum()) for axis in ("economic", "social")]
    assert missing == [1, 0]  # the first item is an economic one


@pytest.mark.parametrize(("name", "weights"), [("political_compass", "a"), ("8values", "site")])
def test_the_mean_of_what_each_answer_says_is_the_score(name: str, weights: str) -> None:
    instrument = key(name).model_copy(update={"digits": None})
    chances = np.random.default_rng(4).dirichlet(np.ones(len(instrument.answers)), size=(len(instrument.items), 1))
    for axis, score in instrument.scores(chances[:, 0], weights).items():
        assert instrument.keyed(chances, weights, axis)[0].mean() == pytest.approx(score)


def test_a_copy_with_too_few_statements_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "propositions.txt"
    file.write_text("One.\nTwo.\n")
    with pytest.raises(InputError, match=r"propositions.txt: has 2 statements, and The Political Compass has 62"):
        keys.statements(key("political_compass"), file)
    with pytest.raises(InputError, match=r"no such file. Put the 62 statements"):
        keys.statements(key("political_compass"), tmp_path / "none.txt")


def test_an_unknown_instrument_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no instrument 'horoscope'. There are: 8values, compass, political_compass\."):
        key("horoscope")
    with pytest.raises(InputError, match=r"no instrument 'questions'"):
        key("questions")
    with pytest.raises(InputError, match=r"no instrument '.*mine.yaml'"):
        key(str(tmp_path / "mine.yaml"))


def test_a_name_may_be_written_with_hyphens_and_capitals() -> None:
    assert key("Political-Compass").name == "political_compass"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": ["SD", "D", "A"]}, "SA is missing"),
        ({"sets": {}}, "at least one set"),
        ({"sets": {"w": {}}}, r"sets\.w: needs a scale for each of x"),
        ({"items": [{"id": "one", "points": {"v": {"x": 1}}}]}, "item one: there is no set 'v'"),
        ({"items": [{"id": "one", "points": {"w": {"y": 1}}}]}, "no such axis among y"),
        ({"items": [{"id": "one", "points": {"w": {"x": [1, 2, 3]}}}]}, "item one: needs 4 figures"),
        ({"multipliers": []}, "item one: needs 4 figures"),
    ],
)
def test_a_wrong_key_is_refused_with_its_place(change: dict[str, object], message: str) -> None:
    content = {
        "name": "n",
        "title": "t",
        "source": "s",
        "answers": ["SD", "D", "A", "SA"],
        "multipliers": [-1, -0.5, 0.5, 1],
        "axes": {"x": {"positive": "right", "low": "l", "high": "h"}},
        "sets": {"w": {"x": {"offset": 0, "divisor": 1}}},
        "items": [{"id": "one", "points": {"w": {"x": 1}}}],
    }
    parse(Key, content, "mine.yaml")
    with pytest.raises(InputError, match=message):
        parse(Key, content | change, "mine.yaml")
