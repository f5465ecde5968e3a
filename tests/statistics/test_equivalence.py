import numpy as np
import pytest
from scipy.stats import t as student

from stages.statistics.bootstrap import crossed_mean
from stages.statistics.equivalence import Equivalence, from_draws, paired


def test_paired_differences_give_the_larger_of_both_one_sided_t_tests() -> None:
    differences = np.array([0.3, -0.2, 0.5, 0.1, -0.1, 0.4])
    error = differences.std(ddof=1) / np.sqrt(6)
    above = student.sf((differences.mean() + 0.5) / error, 5)
    below = student.cdf((differences.mean() - 0.5) / error, 5)
    assert paired(differences, 0.5).p == pytest.approx(max(above, below))


def test_the_verdict_is_whether_the_90_percent_interval_lies_between_the_margins() -> None:
    differences = np.random.default_rng(0).normal(0.1, 1, size=50)
    half = student.ppf(0.95, 49) * differences.std(ddof=1) / np.sqrt(50)
    found = paired(differences, 1.0)
    assert (found.low, found.high) == pytest.approx((differences.mean() - half, differences.mean() + half))
    farthest = max(-found.low, found.high)
    assert paired(differences, farthest * 1.001).equivalent
    assert not paired(differences, farthest * 0.999).equivalent


def test_draws_and_t_tests_agree_on_independent_differences() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1, size=(200, 1))
    draws = crossed_mean(differences, np.zeros(200, dtype=int), 1)[1]
    by_draws, by_t = from_draws(draws, 0.35), paired(differences[:, 0], 0.35)
    assert by_draws.p == pytest.approx(by_t.p, abs=0.01)
    assert (by_draws.low, by_draws.high) == pytest.approx((by_t.low, by_t.high), abs=0.02)


def test_a_wide_interval_around_zero_is_no_proof_of_neutrality() -> None:
    draws = np.random.default_rng(2).normal(0, 2, size=2000)
    assert not from_draws(draws, 1.0).equivalent
    assert from_draws(draws / 10, 1.0).equivalent


def test_draws_on_a_margin_count_as_beyond_it() -> None:
    assert from_draws(np.full(2000, 1.0), 1.0).p == 1
    assert from_draws(np.zeros(2000), 1.0).p == pytest.approx(1 / 2001)


def test_at_the_margin_equivalence_is_claimed_about_once_in_twenty() -> None:
    random = np.random.default_rng(3)
    claims = sum(paired(random.normal(0.5, 1, size=30), 0.5).equivalent for _ in range(1000))
    assert claims / 1000 == pytest.approx(0.05, abs=0.02)


def test_figures_are_what_metric_files_hold() -> None:
    assert Equivalence(0.5, 0.01, -0.2, 0.3).figures() == {"margin": 0.5, "p": 0.01, "low": -0.2, "high": 0.3, "equivalent": True}


@pytest.mark.parametrize("margin", [0.0, -1.0])
def test_a_margin_that_is_not_positive_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        from_draws(np.zeros(10), margin)
    with pytest.raises(ValueError, match="must be above 0"):
        paired(np.array([0.0, 1.0]), margin)
