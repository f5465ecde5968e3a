import pytest

from stages.reporting import measures
from stages.reporting.measures import Measure


def test_figures_become_flat_and_keep_their_intervals() -> None:
    text = '{"left": {"kappa": {"value": 0.4, "low": 0.3, "high": 0.5}, "n": 12, "note": "text", "done": true}}'
    assert measures.read(text) == {("left", "kappa"): Measure(0.4, 0.3, 0.5), ("left", "n"): Measure(12.0)}


def test_an_absent_file_has_no_figures() -> None:
    assert measures.read("") == {}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (Measure(1, 0, 2), Measure(1, 0, 2), "same"),
        (Measure(1, 0, 2), Measure(1.5, 1.4, 1.6), "within"),  # the later value lies in the earlier interval
        (Measure(1.5, 1.4, 1.6), Measure(1, 0, 2), "within"),  # and the other way round
        (Measure(1, 0, 2), Measure(3, 1.9, 4.1), "beyond"),  # the intervals overlap, but hold neither value
        (Measure(1), Measure(2), "no interval"),
        (None, Measure(1), "new"),
        (Measure(1), None, "gone"),
    ],
)
def test_a_change_is_judged_by_both_intervals(before: Measure | None, after: Measure | None, expected: str) -> None:
    assert measures.verdict(before, after) == expected


def test_a_figure_is_written_with_its_interval() -> None:
    assert str(Measure(2.10518, -0.224846, 4.49108)) == "2.1 (-0.2 to 4.5)"
    assert str(Measure(-0.001205, -0.0336, 0.0328)) == "-0.001 (-0.034 to 0.033)"
    assert str(Measure(512.3, 480.0, 560.0)) == "512 (480 to 560)"
    assert str(Measure(-0.01, -0.9, 0.9)) == "0.0 (-0.9 to 0.9)"
    assert str(Measure(0.995, 0.995, 0.995)) == "0.995"
    assert str(Measure(300.0)) == "300"
