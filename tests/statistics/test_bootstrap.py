import numpy as np
import pytest
from scipy.stats import ttest_1samp

from stages.statistics.bootstrap import Estimate, estimate, nested


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


def coverage(columns: int, between_columns: float, rows: int = 32, cases: int = 200) -> float:
    """The share of intervals that cover the mean of all rows and columns there could be, for rows of two strata that differ by 1 (standard deviation)."""
    random, strata, hits = np.random.default_rng(1), np.tile([1, -1], rows // 2), 0
    for _ in range(cases):
        by_stratum = 0.5 * strata[:, None] * random.normal(size=(1, columns))  # as agreeing more readily in one wording moves items keyed either way
        values = random.normal(size=(rows, 1)) + between_columns * random.normal(size=(1, columns)) + by_stratum + random.normal(size=(rows, columns))
        found = estimate(values, strata, 1)
        hits += found.low <= 0 <= found.high
    return hits / cases


@pytest.mark.parametrize(("columns", "between_columns"), [(1, 0.0), (2, 0.0), (2, 0.2), (3, 0.5), (5, 0.0), (5, 1.0), (10, 1.0)])
def test_intervals_cover_the_truth_as_often_as_they_say(columns: int, between_columns: float) -> None:
    assert coverage(columns, between_columns) >= 0.92  # .95, less two standard deviations of 200 cases


def test_few_rows_are_enough_for_an_honest_interval() -> None:
    assert coverage(columns=2, between_columns=0.2, rows=6) >= 0.92


def test_two_columns_that_differ_far_more_than_rows_are_where_honesty_ends() -> None:
    assert 0.82 <= coverage(columns=2, between_columns=1.0) < 0.95


def test_two_columns_that_differ_give_a_wide_interval_and_two_that_agree_do_not() -> None:
    rows = np.random.default_rng(3).normal(size=(32, 1))
    apart, together, alone = (estimate(values, np.zeros(32, dtype=int), 1) for values in (rows + np.array([[-1.0, 1.0]]), np.repeat(rows, 2, axis=1), rows))
    assert apart.high - apart.low > 8  # t of one degree of freedom, on half of what two columns 2 apart vary by
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=0.03)


def test_few_rows_of_one_value_each_have_the_t_interval_of_their_mean() -> None:
    values = np.random.default_rng(4).normal(size=8)
    found, expected = estimate(values[:, None], np.zeros(8, dtype=int), 1), ttest_1samp(values, 0.0).confidence_interval()
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.1)


def test_an_interval_is_cut_off_where_its_figure_ends() -> None:
    assert Estimate(0.95, 0.8, 1.04).within(0, 1) == Estimate(0.95, 0.8, 1)


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


def test_rows_without_a_value_change_nothing() -> None:
    values = np.random.default_rng(3).normal(size=(4, 3))
    padded = np.vstack([values, np.full((6, 3), np.nan)])
    assert estimate(padded, np.zeros(10, dtype=np.int64), 1) == estimate(values, np.zeros(4, dtype=np.int64), 1)


def test_rows_count_once_however_many_of_their_cells_are_there() -> None:
    found = nested(np.array([[1.0, 3.0], [np.nan, 8.0], [np.nan, np.nan]]))
    assert found.shape == (3, 1)
    assert found[:, 0].tolist() == pytest.approx([2.0, 8.0, np.nan], nan_ok=True)


def test_cells_that_are_draws_of_their_row_cover_the_truth_by_rows_alone_with_less_width_than_crossed_ones() -> None:
    random, hits, widths = np.random.default_rng(5), 0, np.zeros((200, 2))
    for case in range(200):
        values = random.normal(size=(24, 1)) + 2 * random.normal(size=(24, 2))  # as answers to questions, drawn twice
        found, crossed = (estimate(cells, np.zeros(24, dtype=int), 1) for cells in (nested(values), values))
        hits += found.low <= 0 <= found.high
        widths[case] = found.high - found.low, crossed.high - crossed.low
    assert 0.92 <= hits / 200 <= 0.98
    assert widths[:, 0].mean() == pytest.approx(2 * 2.07 * np.sqrt((1 + 4 / 2) / 24), rel=0.05)  # t of 23 degrees of freedom
    assert widths[:, 0].mean() < 0.8 * widths[:, 1].mean()
