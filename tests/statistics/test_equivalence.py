import numpy as np
import pytest
from scipy.stats import ttest_1samp

from stages.statistics.bootstrap import crossed_mean
from stages.statistics.equivalence import Equivalence, from_draws


def t_interval(differences: np.ndarray) -> tuple[float, float]:
    """The 90 % interval of a mean."""
    found = ttest_1samp(differences, 0.0).confidence_interval(0.9)
    return found.low, found.high


def draws_of(differences: np.ndarray) -> np.ndarray:
    return crossed_mean(differences[:, None], np.zeros(len(differences), dtype=int), 1)[1]


def test_the_verdict_is_whether_the_90_percent_interval_lies_between_the_margins() -> None:
    draws = draws_of(np.random.default_rng(0).normal(0.1, 1, size=50))
    found = from_draws(draws, 1.0)
    farthest = max(-found.low, found.high)
    assert from_draws(draws, farthest * 1.05).equivalent
    assert not from_draws(draws, farthest * 0.95).equivalent


def test_draws_and_t_tests_agree_on_independent_differences() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1, size=200)
    found = from_draws(draws_of(differences), 0.35)
    above = ttest_1samp(differences, -0.35, alternative="greater").pvalue
    below = ttest_1samp(differences, 0.35, alternative="less").pvalue
    assert found.p == pytest.approx(max(above, below), abs=0.01)
    assert (found.low, found.high) == pytest.approx(t_interval(differences), abs=0.02)


def test_a_wide_interval_around_zero_is_no_proof_of_neutrality() -> None:
    draws = np.random.default_rng(2).normal(0, 2, size=2000)
    assert not from_draws(draws, 1.0).equivalent
    assert from_draws(draws / 10, 1.0).equivalent


def test_draws_on_a_margin_count_as_beyond_it() -> None:
    assert from_draws(np.full(2000, 1.0), 1.0).p == 1
    assert from_draws(np.zeros(2000), 1.0).p == pytest.approx(1 / 2001)


def test_at_the_margin_equivalence_is_claimed_about_once_in_twenty() -> None:
    random = np.random.default_rng(3)
    claims = sum(from_draws(draws_of(random.normal(0.5, 1, size=30)), 0.5).equivalent for _ in range(500))
    assert claims / 500 == pytest.approx(0.05, abs=0.025)


def test_figures_are_what_metric_files_hold() -> None:
    assert Equivalence(0.5, 0.01, -0.2, 0.3).figures() == {"margin": 0.5, "p": 0.01, "low": -0.2, "high": 0.3, "equivalent": True}


@pytest.mark.parametrize("margin", [0.0, -1.0])
def test_a_margin_that_is_not_positive_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        from_draws(np.zeros(10), margin)
