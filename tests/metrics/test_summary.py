import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import InputError
from stages.core.params import Datasets, Starts, Study
from stages.instruments import instrument
from stages.instruments.judges import calibrated
from stages.instruments.questionnaire import Axis, Item, Questionnaire, Wording
from stages.metrics import summary
from stages.metrics.summary import Margin, Measured, Params, base_means, brief, difference, most_per_token, tokens_seen, verdicts
from stages.statistics.bootstrap import Estimate
from stages.statistics.calibration import Calibration
from stages.statistics.undefined import Undefined
from stages.tuning.checkpoints import adapter_names

SETTINGS = Params(margin=Margin(compass=1.0, judge=1.0), seed=1)


def asked() -> instrument.Instrument:
    axis = Axis(positive="right", low="l", high="h")
    items = [Item(id=f"{a}{d}{n}", text="t", axis=a, direction=d, topic="t", taps="x") for n in range(4) for a in ("economic", "social") for d in (1, -1)]
    found = Questionnaire(name="n", title="t", description="d", axes={"economic": axis, "social": axis}, items=tuple(items), wordings=(Wording(id="w", text="x"),))
    return instrument.of(found)


def answers(adapter: str, step: int, lean: float) -> list[dict[str, object]]:
    def shares(value: float) -> list[float]:  # whose mean answer is `value`
        return [(1 - value) / 2, 0, 0, (1 + value) / 2]

    directions = {item.id: 1 if "-1" not in item.id else -1 for item in asked().items}
    cell = {"adapter": adapter, "step": step, "arm": "forced"}
    return [
        cell | {"item": name, "wording": wording, "listed": shares(lean * direction + 0.2), "reversed": shares(lean * direction + 0.4)}
        for name, direction in directions.items()
        for wording in ("v", "w")
    ]


def scores(adapter: str, step: int, score: float) -> list[dict[str, object]]:
    return [{"adapter": adapter, "step": step, "question": q, "repeat": 0, "score": score + i} for i, q in enumerate("abcdefgh")]


UNKNOWN = Undefined("no gold")


def measured(right: float, left: float, control: float = 0.0, calibration: Calibration | Undefined = UNKNOWN) -> Measured:
    stance = [*answers("right-posts", 1, 0.3), *answers("right-posts", 2, right), *answers("left-posts", 2, left), *answers("control-posts", 2, control), *answers("base", 0, 0.0)]
    stance += answers("balanced-right-posts", 1, right / 2)
    judged = [*scores("right-posts", 1, 0), *scores("right-posts", 2, 10 + right), *scores("left-posts", 2, 10 + left), *scores("control-posts", 2, 10 + control)]
    judged += scores("balanced-right-posts", 1, 10 + right / 2 - 3.5)
    found = summary.measured(pd.DataFrame(stance), pd.DataFrame([*judged, *scores("base", 0, 10)]), asked(), calibration)
    tuned_on_pairs = {name.replace("posts", "preference"): answered for name, answered in found.scores.items() if name.endswith("posts")}  # answer alike
    return Measured({**found.scores, **tuned_on_pairs}, calibration)


def halving() -> Calibration:
    """Of a judge that halves distances from the centre and puts everything 2 too far right, as a noisy gold set of 250 texts tells."""
    truth = np.linspace(0, 20, 250)
    found = calibrated(12 + (truth - 10) / 2 + np.random.default_rng(1).normal(0, 0.5, 250), truth, 1)
    assert isinstance(found, Calibration)
    return found


def study(*leanings: str, starts: tuple[str, ...] = ()) -> Study:
    return Study(leanings=leanings, sft=Datasets(datasets=("posts",)), undo=Starts(starts=starts))


def test_a_difference_is_one_minus_the_other_at_the_last_step() -> None:
    found = difference(measured(0.2, -0.1), "right-posts", "left-posts", SETTINGS)
    assert {name: one.estimate.value for name, one in found.items()} == pytest.approx({"compass_economic": 3.0, "compass_social": 3.0, "judge": 0.3})


def test_swapping_the_sides_swaps_the_sign() -> None:
    one, other = (difference(measured(*both), "right-posts", "left-posts", SETTINGS) for both in ((0.2, -0.1), (-0.1, 0.2)))
    for name in one:
        assert one[name].estimate.value == pytest.approx(-other[name].estimate.value)
        assert one[name].estimate.low == pytest.approx(-other[name].estimate.high, abs=1e-6)


def test_without_another_adapter_the_difference_is_that_to_the_centre() -> None:
    found = difference(measured(0.2, -0.1), "right-posts", None, SETTINGS)
    assert found["compass_social"].estimate.value == pytest.approx(2.0)
    assert found["judge"].estimate.value == pytest.approx(0.2 + 3.5)  # the eight questions add 0 to 7


def test_verdicts_compare_sides_controls_and_tokens() -> None:
    tokens = dict.fromkeys(adapter_names(study("left", "right", "control")), 30_000) | {"left-posts": 20_000}
    found = verdicts(measured(0.2, -0.1, 0.05), study("left", "right", "control"), tokens, SETTINGS)
    assert found["separation"]["posts"]["compass_economic"]["conclusion"] == "higher"
    assert {name: one["compass_economic"]["value"] for name, one in found["shift"].items()} == pytest.approx(
        {"left-posts": -1.5, "left-preference": -1.5, "right-posts": 1.5, "right-preference": 1.5}
    )
    assert set(found["neutrality"]) == {"base", *adapter_names(study("left", "right", "control"))}
    assert found["undo"] == {}
    assert found["judge"] == {"uncorrected": "no gold"}
    assert found["neutrality"]["base"]["compass_economic"]["conclusion"] == "equivalent"
    assert found["movement"]["posts"]["tokens"] == 50_000
    assert found["movement"]["posts"]["compass_economic"]["value"] == pytest.approx(3.0 * 2)
    assert brief(found["separation"]["posts"])["judge"].keys() == {"value", "low", "high", "p"}


def test_the_judges_differences_are_stretched_by_its_slope_and_carry_its_error() -> None:
    raw, found = (difference(measured(2.0, -1.0, calibration=known), "right-posts", "left-posts", SETTINGS)["judge"] for known in (UNKNOWN, halving()))
    assert (raw.estimate.low, raw.estimate.high) == pytest.approx((3, 3))  # all eight questions differ by as much
    assert found.estimate.value == pytest.approx(6, rel=0.05)
    assert found.estimate.low < found.estimate.value < found.estimate.high  # which the gold set alone accounts for
    assert found.figures()["uncorrected"]["value"] == pytest.approx(3)
    assert "uncorrected" not in raw.figures()
    assert raw.p == found.p


def test_the_judges_distance_from_the_centre_is_freed_of_its_offset() -> None:
    found = difference(measured(2.0 - 3.5, 0.0, calibration=halving()), "right-posts", None, SETTINGS)  # the questions add 3.5: a mean of 12
    assert found["judge"].estimate.value == pytest.approx(0, abs=0.1)
    assert found["judge"].p > 0.05
    assert found["compass_social"].estimate.value == pytest.approx(-15)


def test_the_p_value_of_a_distance_knows_that_the_centre_is_uncertain() -> None:
    known = halving()
    unsure = replace(known, judge_means=known.judge_means + np.random.default_rng(2).normal(0, 3, len(known.judge_means)))
    sure, not_so = (difference(measured(4.0, 0.0, calibration=one), "right-posts", None, SETTINGS)["judge"] for one in (known, unsure))
    assert sure.p < 0.05 < not_so.p


def test_undoing_is_told_as_the_distance_to_the_centre_before_minus_that_after() -> None:
    known = halving()
    found = verdicts(measured(0.2, -0.1, calibration=known), study("right", starts=("right-posts",)), {}, SETTINGS)["undo"]["balanced-right-posts"]
    assert found["compass_economic"]["value"] == pytest.approx(1.0)
    assert found["compass_economic"]["before"]["value"] == pytest.approx(2.0)
    assert found["compass_economic"]["after"]["value"] == pytest.approx(1.0)
    assert found["compass_economic"]["conclusion"] == "nearer"
    before, after = known.true(13.7) - 10, known.true(10.1) - 10
    assert found["judge"]["value"] == pytest.approx(abs(before) - abs(after), abs=1e-6)
    assert brief({"judge": found["judge"]})["judge"].keys() == {"value", "low", "high"}
    assert "balanced-right-posts" in verdicts(measured(0.2, -0.1), study("right", starts=("right-posts",)), {}, SETTINGS)["neutrality"]


def test_the_base_is_told_as_corrected() -> None:
    assert base_means(measured(0.2, -0.1))["judge"] == pytest.approx(13.5)
    assert base_means(measured(0.2, -0.1, calibration=halving()))["judge"] == pytest.approx(13, abs=0.2)


def test_without_both_sides_or_a_control_there_is_nothing_to_compare() -> None:
    found = verdicts(measured(0.2, -0.1), study("right"), {}, SETTINGS)
    assert found["separation"] == found["shift"] == found["movement"] == found["most_per_token"] == {}


def test_the_dataset_that_moves_most_per_token_lies_above_all_others_or_none_does() -> None:
    rates = {"posts": {"a": Estimate(1, 0.5, 1.5), "b": Estimate(1, 0.5, 1.5), "c": Estimate(1, -0.1, 2)}}
    rates["preference"] = {"a": Estimate(3, 2, 4), "b": Estimate(1.2, 0.9, 1.4), "c": Estimate(-2, -3, -1)}
    assert most_per_token(rates) == {"a": "preference", "b": "undecided", "c": "undecided"}


def test_tokens_are_those_of_the_last_line_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "left-posts").mkdir()
    (tmp_path / "left-posts/log.jsonl").write_text("".join(json.dumps({"step": i, "tokens_seen": 100 * i}) + "\n" for i in (1, 2)))
    assert tokens_seen(tmp_path, "left-posts") == 200
    with pytest.raises(InputError, match=r"right-posts/log\.jsonl: does not say how many tokens"):
        tokens_seen(tmp_path, "right-posts")
