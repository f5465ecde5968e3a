import pyarrow as pa
import pytest

from stages.instruments.questionnaire import Axis, Item, Questionnaire, Wording
from stages.metrics import compass, judge
from stages.metrics.summary import separation


def instrument() -> Questionnaire:
    axis = Axis(positive="right", low="l", high="h")
    items = [Item(id=f"{a}{d}", text="t", axis=a, direction=d, topic="t", taps="x") for a in ("economic", "social") for d in (1, -1)]
    return Questionnaire(name="n", title="t", description="d", axes={"economic": axis, "social": axis}, items=tuple(items), wordings=(Wording(id="w", text="x"),))


def answers(adapter: str, step: int, lean: float) -> list[dict[str, object]]:
    return [
        {"adapter": adapter, "step": step, "item": item.id, "wording": wording, "value": lean * item.direction + 0.3, "mass": 1.0}
        for item in instrument().items
        for wording in ("v", "w")
    ]


def scores(adapter: str, step: int, score: float) -> list[dict[str, object]]:
    return [{"adapter": adapter, "step": step, "question": q, "repeat": 0, "text": "", "score": score} for q in ("a", "b")]


def tables(right: float, left: float) -> tuple[pa.Table, pa.Table]:
    stance = [*answers("right-posts", 1, 0.9), *answers("right-posts", 2, right), *answers("left-posts", 2, left)]
    judged = [*scores("right-posts", 1, 0), *scores("right-posts", 2, 10 + right), *scores("left-posts", 2, 10 + left)]
    return pa.Table.from_pylist(stance, compass.ANSWERS), pa.Table.from_pylist(judged, judge.ANSWERS)


def test_separation_is_right_minus_left_at_the_last_step() -> None:
    found = separation(*tables(0.2, -0.1), "posts", instrument())
    assert found["compass_economic"].value == pytest.approx(10 * 0.3)
    assert found["compass_social"].value == pytest.approx(10 * 0.3)
    assert found["judge"].value == pytest.approx(0.3)


def test_swapping_the_sides_swaps_the_sign() -> None:
    one, other = separation(*tables(0.2, -0.1), "posts", instrument()), separation(*tables(-0.1, 0.2), "posts", instrument())
    for name in one:
        assert one[name].value == pytest.approx(-other[name].value)
        assert one[name].low == pytest.approx(-other[name].high, abs=1e-6)
