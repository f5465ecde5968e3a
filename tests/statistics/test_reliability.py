import numpy as np
import pytest

from stages.statistics.reliability import split_half
from stages.statistics.undefined import Undefined


def measured(rows: int, columns: int, noise: float) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.normal(size=(rows, 1)) + noise * random.normal(size=(rows, columns))


@pytest.mark.parametrize(("columns", "noise"), [(2, 1.0), (5, 1.0), (10, 2.0)])
def test_it_is_the_share_of_the_variance_of_means_that_is_true(columns: int, noise: float) -> None:
    true = 1 / (1 + noise**2 / columns)
    assert split_half(measured(4000, columns, noise), 1) == pytest.approx(true, abs=0.02)


def test_two_columns_give_spearman_and_browns_formula() -> None:
    values = measured(30, 2, 1.0)
    r = np.corrcoef(values.T)[0, 1]
    assert split_half(values, 1) == pytest.approx(2 * r / (1 + r))


def test_it_agrees_with_cronbachs_alpha_where_columns_are_alike() -> None:
    values = measured(500, 8, 1.0)
    alpha = 8 / 7 * (1 - values.var(axis=0, ddof=1).sum() / values.sum(axis=1).var(ddof=1))
    assert split_half(values, 1) == pytest.approx(alpha, abs=0.01)


def test_columns_that_agree_are_reliable_and_noise_is_not() -> None:
    assert split_half(np.repeat(np.arange(6.0)[:, None], 4, axis=1), 1) == pytest.approx(1)
    assert abs(split_half(np.random.default_rng(1).normal(size=(3000, 6)), 1)) < 0.1


def test_columns_that_contradict_each_other_stay_within_minus_one() -> None:
    values = np.random.default_rng(2).normal(size=(20, 1)) * np.array([1.0, -1.0])
    assert split_half(values, 1) == pytest.approx(-1)


@pytest.mark.parametrize("values", [np.ones((5, 1)), np.ones((2, 4)), np.ones((5, 4))])
def test_it_says_why_there_is_no_reliability(values: np.ndarray) -> None:
    found = split_half(values, 1)
    assert isinstance(found, Undefined)
    assert found.reason
