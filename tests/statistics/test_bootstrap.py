import numpy as np
import pytest

from stages.statistics.bootstrap import estimate


def test_a_constant_has_no_uncertainty() -> None:
    found = estimate(np.full((6, 3), 2.5), np.zeros(6, dtype=int), 1)
    assert (found.value, found.low, found.high) == pytest.approx((2.5, 2.5, 2.5))


def test_rows_of_one_value_each_give_the_interval_of_their_mean() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=400)
    found = estimate(np.repeat(values[:, None], 2, axis=1), np.zeros(400, dtype=int), 1)
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_strata_keep_a_balance_that_rows_would_lose() -> None:
    values = np.concatenate([np.full((20, 2), 5.0), np.full((20, 2), -5.0)])
    strata = np.repeat([1, -1], 20)
    assert estimate(values, strata, 1).high == pytest.approx(0)
    assert estimate(values, np.zeros(40, dtype=int), 1).high > 0.5


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(150):
        values = random.normal(size=(30, 1)) + random.normal(size=(1, 8)) * 0.5 + random.normal(size=(30, 8)) * 0.5
        found = estimate(values, np.zeros(30, dtype=int), 1)
        hits += found.low <= 0 <= found.high
    assert hits >= 0.88 * 150


def test_missing_cells_are_left_out() -> None:
    random = np.random.default_rng(2)
    values = random.normal(size=(40, 3))
    values[random.random(size=values.shape) < 0.3] = np.nan
    found = estimate(values, np.zeros(40, dtype=int), 1)
    assert found.value == pytest.approx(np.nanmean(values))
    assert found.low < found.value < found.high


def test_nothing_at_all_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no value"):
        estimate(np.full((3, 2), np.nan), np.zeros(3, dtype=int), 1)
