import numpy as np
import pytest
from scipy.stats import t as student

from stages.statistics.bootstrap import Estimate
from stages.statistics.effects import hedges_g
from stages.statistics.undefined import Undefined


def g(differences: np.ndarray, strata: np.ndarray | None = None) -> Estimate:
    found = hedges_g(differences, np.zeros(len(differences), dtype=int) if strata is None else strata)
    assert isinstance(found, Estimate)
    return found


def test_it_is_the_mean_in_standard_deviations_corrected_for_few_items() -> None:
    rows = np.array([1.0, 2.0, 4.0, 5.0])
    cohen = 3 / np.std(rows, ddof=1)
    assert g(rows[:, None]).value == pytest.approx(cohen * (1 - 3 / (4 * 3 - 1)), rel=0.01)  # Hedges' approximation of his factor
    assert g(rows[:, None] + np.array([-1.0, 1.0])).value == pytest.approx(g(rows[:, None]).value)


def test_the_interval_touches_zero_where_the_t_test_is_just_significant() -> None:
    rows = np.random.default_rng(0).normal(size=20)
    rows -= rows.mean()
    threshold = student.ppf(0.975, 19) * rows.std(ddof=1) / np.sqrt(20)
    assert g((rows + threshold)[:, None]).low == pytest.approx(0, abs=1e-6)
    assert g((rows - threshold)[:, None]).high == pytest.approx(0, abs=1e-6)


def test_what_the_strata_differ_by_is_no_noise() -> None:
    directions = np.repeat([1, -1], 10)
    rows = 1 + np.random.default_rng(1).normal(size=(20, 1))
    for kind in (1, -1):
        rows[directions == kind] += 1 - rows[directions == kind].mean()
    assert g(rows + 5 * directions[:, None], directions).value == pytest.approx(g(rows, directions).value)
    assert abs(g(rows + 5 * directions[:, None]).value) < 0.3 * g(rows, directions).value


def test_the_interval_covers_the_true_effect_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        found = g(random.normal(0.5, 1, size=(25, 1)))
        hits += found.low <= 0.5 <= found.high
    assert 0.92 * 300 <= hits <= 0.98 * 300


def test_the_value_is_not_biased_with_few_items() -> None:
    random = np.random.default_rng(3)
    found = [g(random.normal(0.8, 1, size=(6, 1))).value for _ in range(1000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


def test_items_that_do_not_differ_have_no_effect_size() -> None:
    assert isinstance(hedges_g(np.full((8, 2), 0.3), np.zeros(8, dtype=int)), Undefined)
    assert isinstance(hedges_g(np.repeat([[2.0], [-2.0]], 4, axis=0), np.repeat([1, -1], 4)), Undefined)
    assert isinstance(hedges_g(np.array([[0.1], [0.7]]), np.zeros(2, dtype=int)), Undefined)
