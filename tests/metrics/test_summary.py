import json
from pathlib import Path

import pandas as pd
import pytest

from stages.errors import InputError
from stages.instruments import instrument
from stages.instruments.questionnaire import Axis, Item, Questionnaire, Wording
from stages.metrics.summary import Margin, Measured, Params, brief, difference, most_per_token, tokens_seen, verdicts
from stages.statistics.bootstrap import Estimate

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


def measured(right: float, left: float, control: float = 0.0) -> Measured:
    stance = [*answers("right-posts", 1, 0.3), *answers("right-posts", 2, right), *answers("left-posts", 2, left), *answers("control-posts", 2, control), *answers("base", 0, 0.0)]
    judged = [*scores("right-posts", 1, 0), *scores("right-posts", 2, 10 + right), *scores("left-posts", 2, 10 + left), *scores("control-posts", 2, 10 + control)]
    return Measured(pd.DataFrame(stance), pd.DataFrame([*judged, *scores("base", 0, 10)]), asked())


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
    tokens = {"right-posts": 30_000, "left-posts": 20_000, "control-posts": 25_000}
    found = verdicts(measured(0.2, -0.1, 0.05), ("left", "right", "control"), ("posts",), tokens, SETTINGS)
    assert found["separation"]["posts"]["compass_economic"]["conclusion"] == "higher"
    assert {name: one["compass_economic"]["value"] for name, one in found["shift"].items()} == pytest.approx({"left-posts": -1.5, "right-posts": 1.5})
    assert set(found["neutrality"]) == {"base", "left-posts", "right-posts", "control-posts"}
    assert found["neutrality"]["base"]["compass_economic"]["conclusion"] == "equivalent"
    assert found["movement"]["posts"]["tokens"] == 50_000
    assert found["movement"]["posts"]["compass_economic"]["value"] == pytest.approx(3.0 * 2)
    assert brief(found["separation"]["posts"])["judge"].keys() == {"value", "low", "high", "p"}


def test_without_both_sides_or_a_control_there_is_nothing_to_compare() -> None:
    found = verdicts(measured(0.2, -0.1), ("right",), ("posts",), {"right-posts": 1}, SETTINGS)
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
