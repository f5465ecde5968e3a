import numpy as np
import pytest
from scipy.spatial import distance
from scipy.stats import chi2_contingency, entropy, wasserstein_distance
from scipy.stats.contingency import association
from sklearn.metrics.pairwise import cosine_similarity

from stages.statistics import distributions as measures

SIZES = [2, 3, 5, 11]


def pair(k: int, n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(k)
    real, simulated = random.dirichlet(np.ones(k), (2, n))
    real[0, 0] = 0
    real[0] /= real[0].sum()
    return real, simulated


each_size = pytest.mark.parametrize("k", SIZES)


@each_size
def test_chi_square_and_cramers_v_are_those_of_the_contingency_table(k: int) -> None:
    for n, p, q in zip([30, 587, 2000], *pair(k, 3), strict=True):
        table = n * np.array([p, q])
        assert measures.chi_square(p, q, n) == pytest.approx(chi2_contingency(table, correction=False).statistic)
        assert measures.cramers_v(p, q) == pytest.approx(np.sqrt(chi2_contingency(table, correction=False).statistic / table.sum()))


@each_size
def test_cramers_v_is_scipys_on_whole_numbers(k: int) -> None:
    random = np.random.default_rng(k)
    table = random.multinomial(500, random.dirichlet(np.ones(k) * 3, 2))
    p, q = table / 500
    assert measures.cramers_v(p, q) == pytest.approx(association(table, method="cramer", correction=False))


def test_an_option_that_nobody_takes_changes_nothing() -> None:
    p, q = np.array([0.4, 0.6]), np.array([0.7, 0.3])
    longer = [np.append(side, 0) for side in (p, q)]
    assert measures.chi_square(*longer, 100) == pytest.approx(measures.chi_square(p, q, 100))


@each_size
def test_kl_is_scipys_in_the_direction_from_real_to_simulated(k: int) -> None:
    p, q = pair(k)
    assert measures.kl(p, q, share=0) == pytest.approx(entropy(p, q, axis=-1))
    assert measures.kl(p, q) == pytest.approx(entropy(measures.smooth(p), measures.smooth(q), axis=-1))
    assert not np.allclose(measures.kl(p, q), measures.kl(q, p))


def test_smoothing_keeps_kl_finite_and_equality_at_zero() -> None:
    certain = np.array([1.0, 0.0, 0.0])
    # p' = (1 - 2/3000, 1/3000, 1/3000), q' = (1/3000, ...): p' ln(p'/q') + q' ln(q'/p'), the third terms cancel
    high, low = 1 - 2 / 3000, 1 / 3000
    assert measures.kl(certain, certain[::-1]) == pytest.approx((high - low) * np.log(high / low))
    assert measures.kl(certain, certain) == 0
    assert measures.smooth(certain).sum() == pytest.approx(1)


@each_size
def test_js_distance_is_scipys_with_base_2(k: int) -> None:
    p, q = pair(k)
    assert measures.js_distance(p, q) == pytest.approx(distance.jensenshannon(p, q, base=2, axis=-1))
    assert measures.js_distance(np.eye(k)[0], np.eye(k)[1]) == pytest.approx(1)


@each_size
def test_cosine_is_scikit_learns(k: int) -> None:
    p, q = pair(k)
    assert measures.cosine(p, q) == pytest.approx(np.diag(cosine_similarity(p, q)))


@each_size
def test_weighted_jaccard_follows_from_bray_curtis(k: int) -> None:
    for p, q in zip(*pair(k), strict=True):
        apart = distance.braycurtis(p, q)  # Σ |p - q| / Σ (p + q), the total variation distance of distributions
        assert measures.jaccard(p, q) == pytest.approx((1 - apart) / (1 + apart))


@each_size
def test_wasserstein_is_scipys_over_equally_spaced_options(k: int) -> None:
    places = np.linspace(0, 1, k)
    for p, q in zip(*pair(k), strict=True):
        assert measures.wasserstein(p, q) == pytest.approx(wasserstein_distance(places, places, p, q))


def test_wasserstein_knows_the_order_of_options() -> None:
    first, second, last = np.eye(3)
    assert measures.wasserstein(first, second) == pytest.approx(0.5)
    assert measures.wasserstein(first, last) == pytest.approx(1)


@each_size
def test_variance_is_that_of_scored_answers(k: int) -> None:
    counts = np.random.default_rng(k).integers(1, 50, k)
    scores = np.repeat(np.linspace(0, 1, k), counts)
    found = counts / counts.sum()
    assert measures.mean_score(found) == pytest.approx(scores.mean())
    assert measures.variance(found) == pytest.approx(scores.var())


def test_a_model_that_always_says_the_same_has_no_variance() -> None:
    assert measures.variance_ratio(np.array([0.5, 0.0, 0.5]), np.array([0.0, 1.0, 0.0])) == 0
    assert measures.variance_ratio(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(0.75)
    assert np.isnan(measures.variance_ratio(np.array([1.0, 0.0]), np.array([1.0, 0.0])))


@pytest.mark.parametrize(
    ("measure", "equal"),
    [
        (measures.kl, 0),
        (measures.js_distance, 0),
        (measures.cosine, 1),
        (measures.jaccard, 1),
        (measures.wasserstein, 0),
        (measures.cramers_v, 0),
        (measures.variance_ratio, 1),
    ],
)
def test_many_distributions_are_measured_at_once(measure, equal: float) -> None:
    p, q = pair(5, 6)
    assert measure(p.reshape(2, 3, 5), q.reshape(2, 3, 5)).ravel() == pytest.approx([float(measure(*both)) for both in zip(p, q, strict=True)])
    assert measure(p, p) == pytest.approx(np.full(6, equal), abs=1e-7)
