import re
from xml.etree import ElementTree

import pytest

from stages.reporting import charts
from stages.reporting.charts import Scale, Series
from stages.reporting.measures import Measure

LINE = Series("left <a>", 0, ((Measure(0), Measure(1, 0, 2)), (Measure(8), Measure(3, 2, 4))))


def test_a_scale_leads_from_end_to_end() -> None:
    scale = Scale(-1, 3, 100, 300)
    assert [scale(value) for value in (-1, 1, 3)] == [100, 200, 300]


@pytest.mark.parametrize(("low", "high", "expected"), [(-0.32, 0.05, [-0.3, -0.2, -0.1, 0]), (0, 16, [0, 5, 10, 15]), (9.2, 15.4, [10, 12, 14])])
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert Scale(low, high, 0, 1).ticks() == pytest.approx(expected)


def test_a_scale_of_one_value_has_room() -> None:
    scale = charts.scale([Measure(5.0)], 0, 100)
    assert scale.low < 5 < scale.high


@pytest.mark.parametrize(
    "svg",
    [
        charts.curves("a & b", "step", "y", [LINE]),
        charts.trajectories("t", "x", "y", [Series("left", 0, ((Measure(0, -1, 1), Measure(1, 0, 2)), (Measure(2, 1, 3), Measure(2, 1, 3))))]),
        charts.whiskers("w", "x", [("posts", Measure(1, -1, 3), 4), ("n", Measure(2), 4)]),
        charts.whiskers("w", "x", [("kl", Measure(-0.2, -0.3, 0.1), 4)], bars=True),
        charts.dots("d", "x", [("75 or older", [(Measure(0.2), 2), (Measure(0.5, 0.0, 1.0), 0)]), ("b", [])], 0, 1),
        charts.heatmap("h", ["a", "b"], ["c"], [[(1.0, "9")], [None]], "row", "column"),
    ],
    ids=["curves", "trajectories", "whiskers", "bars", "dots", "heatmap"],
)
def test_a_chart_is_a_picture_with_a_name_inside_its_frame(svg: str) -> None:
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    assert width == 360
    for x in re.findall(r' (?:x|x1|x2|cx)="(-?[\d.]+)"', svg):
        assert 0 <= float(x) <= width
    for y in re.findall(r' (?:y|y1|y2|cy)="(-?[\d.]+)"', svg):
        assert 0 <= float(y) <= height


def test_a_band_spans_the_intervals() -> None:
    polygon = re.findall(r'<polygon points="(.+?)"', charts.curves("c", "step", "y", [LINE]))
    corners = [tuple(map(float, corner.split(","))) for corner in polygon[0].split()]
    (x0, low0), (x1, low1), (x2, high1), (x3, high0) = corners
    assert (x0, x1) == (x3, x2)
    assert low0 > low1 > high1  # a larger value lies higher, that is at a smaller y
    assert low1 - high1 == pytest.approx(low0 - high0, abs=0.2)


def test_steps_count_from_zero() -> None:
    svg = charts.curves("c", "step", "y", [Series("left", 0, ((Measure(24), Measure(1)),))])
    (point,) = re.findall(r'translate\(([\d.]+) [\d.]+\)" class="dot', svg)
    grid = {value: float(x) for x, value in re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle"[^>]*>([\d.]+)</text>', svg)}
    assert grid["0"] + 2.4 * (grid["10"] - grid["0"]) == pytest.approx(float(point), abs=0.2)


def test_a_dot_lies_at_its_value_on_the_line_of_its_interval() -> None:
    svg = charts.dots("d", "x", [("a", [(Measure(0.75), 2), (Measure(0.5, 0.25, 1.0), 0)])], 0, 1)
    grid = {value: float(x) for x, value in re.findall(r'<text x="([\d.]+)"[^>]*>([\d.]+)</text>', svg)}
    ((low, y1, high, y2),) = re.findall(r'x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)" class="whisker c0"', svg)
    dots = {look: (float(x), y) for x, y, look in re.findall(r'translate\(([\d.]+) ([\d.]+)\)" class="dot c(\d)"', svg)}
    span = grid["1"] - grid["0"]
    assert (float(low), float(high)) == pytest.approx((grid["0"] + span / 4, grid["1"]), abs=0.2)
    assert (dots["0"][0], dots["2"][0]) == pytest.approx((grid["0"] + span / 2, grid["0"] + span * 3 / 4), abs=0.2)
    assert {y1, y2} == {y for _, y in dots.values()}


def test_a_bar_begins_at_zero() -> None:
    svg = charts.whiskers("w", "x", [("kl", Measure(-0.2, -0.3, 0.1), 4)], bars=True)
    zero = float(re.findall(r'x1="([\d.]+)"[^>]+class="zero"', svg)[0])
    x, width = map(float, re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)[0])
    assert x + width == pytest.approx(zero, abs=0.2)
