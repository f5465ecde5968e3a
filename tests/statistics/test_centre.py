import numpy as np
import pytest

from stages.statistics.centre import approach

KINDS = np.zeros(40, dtype=np.int64)


def answers(mean: float, seed: int = 1) -> np.ndarray:
    """[40, 2], the same items whatever the mean."""
    return mean + np.random.default_rng(seed).normal(0, 1, size=(40, 1)) + np.random.default_rng(seed + 1000).normal(0, 0.3, size=(40, 2))


@pytest.mark.parametrize(("before", "after", "conclusion"), [(3, 1, "nearer"), (-3, -1, "nearer"), (3, -1, "nearer"), (1, 3, "farther"), (-1, 3, "farther"), (3, 3, "undecided")])
def test_what_may_be_concluded(before: float, after: float, conclusion: str) -> None:
    found = approach(answers(before), answers(after), KINDS, 0.0, 1)
    assert found.conclusion == conclusion
    assert found.nearer.value == pytest.approx(abs(found.before.value) - abs(found.after.value))


def test_what_both_have_in_common_drops_out() -> None:
    found = approach(answers(3), answers(1), KINDS, 0.0, 1)
    assert found.before.high - found.before.low > 0.4
    assert (found.nearer.low, found.nearer.high) == pytest.approx((2, 2), abs=1e-9)


def test_crossing_the_centre_as_far_to_the_other_side_is_no_approach() -> None:
    found = approach(answers(2), 2 * answers(0) - answers(2), KINDS, 0.0, 1)
    assert found.conclusion == "undecided"


def test_distances_are_told_from_the_centre() -> None:
    found = approach(answers(13), answers(11), KINDS, 10.0, 1)
    assert found.before.value == pytest.approx(answers(3).mean())
    assert found.nearer.value == pytest.approx(2)


def test_what_corrects_a_mean_comes_before_the_centre_is_subtracted() -> None:
    found = approach(answers(13), answers(11), KINDS, 10.0, 1, lambda value, draws: (10 + 2 * (value - 10), 10 + 2 * (draws - 10)))
    assert found.nearer.value == pytest.approx(4)


def test_cells_that_only_one_has_do_not_count() -> None:
    before, after = answers(3), answers(1)
    before[0, 0], after[1, 1] = np.nan, np.nan
    after[0, 0] = 1e6
    assert approach(before, after, KINDS, 0.0, 1).nearer.value == pytest.approx(2)
    assert approach(np.full((40, 2), np.nan), after, KINDS, 0.0, 1) is None


def test_the_interval_covers_the_approach_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(100):
        found = approach(answers(3, seed), answers(-1.5, seed + 5000), KINDS, 0.0, seed)
        hits += found.nearer.low <= 1.5 <= found.nearer.high
    assert hits >= 90
