import numpy as np
import pytest
from fairlearn.metrics import demographic_parity_difference

from stages.statistics import distributions as measures
from stages.statistics.groups import (
    Resampler,
    chosen,
    distribution,
    divergence,
    effective_size,
    groups,
    measured,
    parity_difference,
    parity_gap,
    worst_group,
)

RANDOM = np.random.default_rng(0)


def test_equal_weights_lose_nobody_and_unequal_ones_do() -> None:
    assert effective_size(np.full(50, 3.0)) == pytest.approx(50)
    assert effective_size(np.array([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)
    assert effective_size(np.array([1.0, 0.0, 0.0])) == pytest.approx(1)
    assert effective_size(np.zeros(0)) == 0


def test_a_weighted_distribution_is_that_of_repeated_answers() -> None:
    answers, weights = RANDOM.integers(0, 3, 40), RANDOM.integers(1, 6, 40)
    repeated = np.bincount(np.repeat(answers, weights), minlength=3) / weights.sum()
    assert distribution(chosen(list(answers), 3), weights.astype(float)) == pytest.approx(repeated)


def test_parity_difference_is_fairlearns_for_each_option() -> None:
    answers, weights = RANDOM.integers(0, 4, 300), RANDOM.uniform(0.2, 3, 300)
    labels = np.array(["a", "b", "c"])[RANDOM.integers(0, 3, 300)]
    found = np.array([distribution(chosen(list(answers[labels == name]), 4), weights[labels == name]) for name in "abc"])
    expected = [demographic_parity_difference(np.ones(300), answers == option, sensitive_features=labels, sample_weight=weights) for option in range(4)]
    assert parity_difference(found) == pytest.approx(expected)


def test_a_model_that_flattens_groups_has_a_gap_below_zero() -> None:
    real = np.array([[0.2, 0.8], [0.6, 0.4]])
    assert parity_gap(real, real) == 0
    assert parity_gap(real, np.array([[0.4, 0.6], [0.4, 0.6]])) == pytest.approx(-0.4)
    assert parity_gap(real, np.array([[0.1, 0.9], [0.9, 0.1]])) == pytest.approx(0.4)


def test_small_groups_are_marked_and_strangers_in_none() -> None:
    labels = ["b"] * 30 + ["a"] * 3 + [None] * 5
    answers = chosen([0] * 30 + [1] * 8, 2)
    large, small = reversed(groups(labels, answers, np.full((38, 2), 0.5), np.ones(38), least=10))
    assert (small.name, small.n, small.effective, small.enough) == ("a", 3, 3.0, False)
    assert (large.name, large.n, large.enough) == ("b", 30, True)
    assert large.real == pytest.approx([1, 0])
    assert small.real == pytest.approx([0, 1])
    assert small.simulated == pytest.approx([0.5, 0.5])


def test_a_group_that_a_few_dominate_is_too_small() -> None:
    weights = np.array([100.0] + [0.01] * 39)
    (found,) = groups(["a"] * 40, chosen([0] * 40, 2), chosen([0] * 40, 2), weights, least=10)
    assert not found.enough


def test_the_worst_group_is_told_with_its_gap() -> None:
    worst = worst_group({"a": 0.1, "b": 0.4, "c": 0.1})
    assert worst is not None
    assert (worst.name, worst.value, worst.gap) == ("b", 0.4, pytest.approx(0.2))
    assert worst_group({"a": 0.1}) is None


# ---- bootstrap


def test_draws_spread_as_the_standard_error_says() -> None:
    answers = chosen([0] * 120 + [1] * 280, 2)
    ids = [f"r{i}" for i in range(400)]
    draws = Resampler(ids, 1).distributions(ids, answers, np.ones(400))[:, 0]
    assert draws.mean() == pytest.approx(0.3, abs=0.003)
    assert draws.std() == pytest.approx(np.sqrt(0.3 * 0.7 / 400), rel=0.06)


def test_all_answers_of_a_respondent_are_drawn_together() -> None:
    ids = [f"r{i}" for i in range(100)]
    answers = chosen(list(RANDOM.integers(0, 2, 100)), 2)
    once = Resampler(ids, 1).distributions(ids, answers, np.ones(100))
    resampler = Resampler(ids * 5, 1)
    assert resampler.distributions(ids * 5, np.tile(answers, (5, 1)), np.ones(500)) == pytest.approx(once)
    assert resampler.distributions(ids[::-1], answers[::-1], np.ones(100)) == pytest.approx(once)


def test_a_draw_without_any_of_a_few_respondents_is_not_a_number() -> None:
    ids = [f"r{i}" for i in range(50)]
    draws = Resampler(ids, 1).distributions(ids[:1], chosen([0], 2), np.ones(1))
    missing = np.isnan(draws[:, 0]).mean()
    assert missing == pytest.approx((1 - 1 / 50) ** 50, abs=0.04)
    assert np.isfinite(divergence(0.0, measures.kl(draws, np.array([0.5, 0.5]))).value)


@pytest.mark.parametrize("measure", [measures.kl, measures.js_distance, measures.wasserstein, measures.cramers_v, lambda p, q: measures.chi_square(p, q, 300)])
def test_a_model_with_the_true_probabilities_has_zero_divergence_within_its_interval(measure) -> None:
    truth = np.array([0.1, 0.3, 0.6])
    ids = [f"r{i}" for i in range(300)]
    resampler = Resampler(ids, 1, draws=400)
    simulated = np.tile(truth, (300, 1))
    hits = 0
    for seed in range(60):
        answers = np.random.default_rng(seed).choice(3, 300, p=truth)
        found = divergence(*measured(measure, resampler, ids, chosen(list(answers), 3), simulated, np.ones(300)))
        assert 0 <= found.low <= found.value <= found.high
        hits += found.low == 0
    assert hits >= 54


def test_the_interval_covers_a_divergence_that_is_there() -> None:
    truth, model = np.array([0.1, 0.3, 0.6]), np.array([0.4, 0.3, 0.3])
    ids = [f"r{i}" for i in range(300)]
    resampler = Resampler(ids, 1, draws=400)
    hits, values = 0, []
    for seed in range(100):
        answers = np.random.default_rng(seed).choice(3, 300, p=truth)
        found = divergence(*measured(measures.kl, resampler, ids, chosen(list(answers), 3), np.tile(model, (300, 1)), np.ones(300)))
        hits += found.low <= measures.kl(truth, model) <= found.high
        values.append(found.value)
    assert hits >= 88
    assert np.mean(values) == pytest.approx(measures.kl(truth, model), rel=0.03)
