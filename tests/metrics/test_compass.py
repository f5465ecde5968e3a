import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages.core import tables
from stages.core.errors import InputError
from stages.core.params import parse, read_yaml
from stages.instruments import instrument as instruments
from stages.instruments import questionnaire as forced
from stages.instruments.controls import Agrees, Guesses, Positioned
from stages.instruments.instrument import Instrument
from stages.instruments.questionnaire import Questionnaire
from stages.metrics.compass import ANSWERS, Params, control_figures, failures, figures, main, schedule, write_curve
from stages.models.base import convert
from stages.statistics.bootstrap import Estimate, crossed_mean, interval
from stages.tuning.checkpoints import Checkpoint

ROOT = Path(__file__).parents[2]
TINY = 1e-9  # rounding of sums that cancel


@pytest.fixture(scope="module")
def compass() -> Questionnaire:
    return forced.load(ROOT / "prompts/instruments/compass.yaml")


@pytest.fixture(scope="module")
def instrument(compass: Questionnaire) -> Instrument:
    return instruments.load(ROOT / "prompts/instruments/compass.yaml", ROOT / "prompts/instruments/wordings.yaml")


@pytest.fixture(scope="module")
def settings() -> Params:
    return parse(Params, read_yaml(ROOT / "params.yaml")["compass"], "params.yaml")


def covers(found: object, truth: float) -> bool:
    assert isinstance(found, dict)
    return found["low"] - TINY <= truth <= found["high"] + TINY


def test_responders_without_a_position_are_at_the_centre_and_would_not_be_placed(instrument: Instrument, settings: Params) -> None:
    found = control_figures(instrument, instrument.wordings[:4], settings)
    assert {name: one["unplaced"] for name, one in found.items()} == {"agrees": "acquiescence", "takes_first": "order_effect", "guesses": "order_effect"}
    assert all(covers(one[axis], 0) for one in found.values() for axis in instrument.axes)


def test_responders_answer_wordings_that_have_names_of_their_own_for_the_answers(instrument: Instrument, settings: Params) -> None:
    scaled = [wording for wording in instrument.wordings if wording.scale]
    assert scaled
    assert {name: one["unplaced"] for name, one in control_figures(instrument, scaled, settings).items()} == {
        "agrees": "acquiescence",
        "takes_first": "order_effect",
        "guesses": "order_effect",
    }


def test_a_model_that_fails_a_limit_has_no_placement(instrument: Instrument, settings: Params) -> None:
    answers = forced.ask(Agrees(), instrument, instrument.wordings[:1])
    assert not {"economic", "social"} & figures(answers, instrument, settings).keys()


def test_a_model_with_a_position_is_placed(compass: Questionnaire, instrument: Instrument, settings: Params) -> None:
    exact = Positioned(compass, {"economic": 3.0, "social": -2.0}, seed=1, between_items=0, between_wordings=0, within=0)
    found = figures(forced.ask(exact, instrument, instrument.wordings[:2]), instrument, settings)
    assert "unplaced" not in found
    assert (found["economic"]["value"], found["social"]["value"]) == pytest.approx((3, -2))


def test_talking_past_the_question_is_a_failure_of_its_own(compass: Questionnaire, instrument: Instrument, settings: Params) -> None:
    silent = Positioned(compass, {"economic": 0.0, "social": 0.0}, seed=1, mass=0.01)
    assert figures(forced.ask(silent, instrument, instrument.wordings[:1]), instrument, settings)["unplaced"] == "valid"


@pytest.mark.parametrize(
    ("found", "failed"),
    [
        ({"valid": 0.9, "order_effect": 0.1}, []),  # an instrument without pairs
        ({"valid": 0.9, "order_effect": 0.1, "acquiescence": {"value": -0.5}}, ["acquiescence"]),
        ({"valid": 0.0, "order_effect": 0.9, "acquiescence": {"value": 0.0}}, ["valid", "order_effect"]),
    ],
)
def test_every_failure_is_named(found: dict[str, object], failed: list[str], settings: Params) -> None:
    assert failures(found, settings) == failed


def test_two_runs_with_other_seeds_and_wordings_agree_within_the_stated_intervals(compass: Questionnaire, instrument: Instrument, settings: Params) -> None:
    covered, repeated, agreed = [], [], []
    for seed in range(50):  # with two axes, 100 cases
        economic, social = np.random.default_rng(seed).uniform(-4, 4, size=2)
        model = Positioned(compass, {"economic": economic, "social": social}, seed=seed)
        first, second = (forced.ask(model, instrument, instrument.wordings[part]) for part in (slice(0, 5), slice(5, 10)))
        stated, again = (figures(answers, instrument, settings.model_copy(update={"seed": run})) for run, answers in ((seed, first), (seed + 1000, second)))
        for axis, truth in model.position.items():
            (one, kinds), (other, _) = (instrument.keyed(answers.mean_chances, axis) for answers in (first, second))
            covered += [covers(stated[axis], truth), covers(again[axis], truth)]
            repeated.append(covers(stated[axis], again[axis]["value"]))
            difference: Estimate = interval(*crossed_mean(one - other, kinds, seed))
            agreed.append(difference.low <= 0 <= difference.high)
    assert np.mean(covered) >= 0.9
    assert np.mean(repeated) >= 0.9
    assert np.mean(agreed) >= 0.9


def test_wordings_rotate_over_checkpoints_and_the_ends_get_all(instrument: Instrument) -> None:
    points = [Checkpoint("base", 0, None), *(Checkpoint(name, step, Path("x")) for name in ("left", "right") for step in (8, 16, 24, 30))]
    wordings = instrument.wordings[:3]
    asked = schedule(points, wordings, 2)
    a, b, c = wordings
    assert asked[points[0]] == (a, b, c)
    for first in (1, 5):
        assert [asked[point] for point in points[first : first + 4]] == [(a, b), (c, a), (b, c), (a, b, c)]


def test_more_wordings_along_the_way_than_there_are_are_all_of_them(instrument: Instrument) -> None:
    points = [Checkpoint("base", 0, None), Checkpoint("left", 8, Path("x")), Checkpoint("left", 16, Path("x"))]
    assert len(schedule(points, instrument.wordings[:2], 5)[points[1]]) == 2


def test_curves_start_with_what_was_tuned_and_are_blank_where_a_model_is_not_placed(tmp_path: Path) -> None:
    checks = {"valid": 0.5, "order_effect": 0.1}
    placed = {**checks, "economic": {"value": 1.0, "low": 0.5, "high": 1.5}, "acquiescence": {"value": 0.2, "low": 0.1, "high": 0.3}}
    measured = {
        Checkpoint("base", 0, None): placed,
        Checkpoint("left-posts", 8, Path("x")): {**checks, "unplaced": "valid"},
        Checkpoint("balanced-left-posts", 4, Path("x")): placed,
    }
    write_curve(tmp_path / "curve.csv", measured, ("economic",))
    assert (tmp_path / "curve.csv").read_text().splitlines() == [
        "adapter,step,economic,economic_low,economic_high,valid,order_effect,acquiescence",
        "left-posts,0,1.0,0.5,1.5,0.5,0.1,0.2",
        "balanced-left-posts,0,,,,0.5,0.1,",  # the end of left-posts
        "left-posts,8,,,,0.5,0.1,",
        "balanced-left-posts,4,1.0,0.5,1.5,0.5,0.1,0.2",
    ]


def test_the_forced_arm_cannot_be_left_out(settings: Params) -> None:
    with pytest.raises(InputError, match=r"compass\.arms: .*`forced`"):
        parse(Params, settings.model_dump() | {"arms": ["paper"]}, "compass")


def test_guesses_are_off_the_centre_no_more_often_than_their_interval_says(instrument: Instrument, settings: Params) -> None:
    placed = [figures(forced.ask(Guesses(seed=seed), instrument, instrument.wordings[:4]), instrument, settings, place_anyway=True) for seed in range(20)]
    assert np.mean([covers(one[axis], 0) for one in placed for axis in instrument.axes]) >= 0.9


@pytest.mark.parametrize("itself", [True, False])
def test_the_stage_asks_the_base_in_all_arms(itself: bool, base_model: Path, compass: Questionnaire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "prompts", tmp_path / "prompts")
    small = compass.model_copy(update={"items": compass.items[:4]})
    (tmp_path / "small.yaml").write_text(json.dumps(small.model_dump(mode="json")))
    values = read_yaml(ROOT / "params.yaml")
    sampled = {"repeats": 2, "statements": 3, "max_tokens": 6, "temperature": 0.3, "top_k": 200}
    if not itself:  # the same weights in a coarser layout stand for another model
        convert(base_model / "model.gguf", "Q8_0", tmp_path / "judge")
    judge = base_model / "model.gguf" if itself else tmp_path / "judge" / "model.gguf"
    open_arm = sampled | {"max_tokens": 24, "judge": str(judge), "judge_itself": itself}
    values["compass"] |= {"instrument": "small.yaml", "arms": ["forced", "paper", "open"], "wordings": 2, "paper": sampled, "open": open_arm}
    (tmp_path / "params.yaml").write_text(json.dumps(values | {"leanings": [], "undo": values["undo"] | {"starts": []}}))
    monkeypatch.chdir(tmp_path)
    main(base_model, Path("adapters"), Path("compass.json"), Path("compass.csv"), Path("answers.parquet"))
    found = json.loads(Path("compass.json").read_text())
    assert set(found) == {"base", "controls"}
    assert 0 < found["base"]["valid"] < 1
    assert set(found["controls"]) == {"agrees", "takes_first", "guesses"}
    for arm in ("paper", "open"):
        assert found["base"][arm]["valid"] + found["base"][arm]["refused"] + found["base"][arm]["unreadable"] == pytest.approx(1)
    assert found["base"]["open"]["valid"] > 0
    assert 0 <= found["base"]["open"]["neither"] <= 1
    assert {"economic", "social"} & found["base"]["open"].keys()
    rows = tables.read(Path("answers.parquet"), ANSWERS).to_pandas()
    assert rows["arm"].value_counts().to_dict() == {"forced": 4 * 2, "paper": 3 * 2, "open": 3 * 2}
    assert tables.provenance(Path("answers.parquet"))["answers"] >= 4 * 2 * 2 + 2 * 3 * 2
