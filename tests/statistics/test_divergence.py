import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from stages.statistics.divergence import Sample, alignment, average, divergence, entropy, entropy_gap, floor, raw_at, tendency

LABELS = 11
Floats = NDArray[np.float64]


def distributions(seed: int, count: int = 1) -> Floats:
    return np.random.default_rng(seed).dirichlet(np.ones(LABELS) * 2, size=count)


def posts(random: np.random.Generator, distribution: Floats, authors: int = 60, each: int = 2, unlike: float = 20) -> Sample:
    """Posts with two labels each, by authors who scatter around ``distribution``."""
    habits = random.dirichlet(distribution * unlike, size=authors).repeat(each, axis=0)
    return Sample.of(random.multinomial(2, habits), np.repeat(np.arange(authors), each).tolist())


def bits(p: Floats, q: Floats) -> float:
    return float(jensenshannon(p, q, base=2) ** 2)


def test_divergence_is_the_square_of_scipys_distance() -> None:
    p, q = distributions(1, 50), distributions(2, 50)
    q[:10, :6] = 0
    q /= q.sum(axis=1, keepdims=True)
    assert divergence(p, q) == pytest.approx(jensenshannon(p, q, base=2, axis=1) ** 2)


@pytest.mark.parametrize(("p", "q", "expected"), [([1, 0], [1, 0], 1), ([1, 0], [0, 1], 0), ([1, 1], [2, 2], 1)])
def test_raw_alignment_runs_from_disjoint_to_equal(p: list[float], q: list[float], expected: float) -> None:
    assert alignment(Sample.of([p]), Sample.of([q]), 1).raw == pytest.approx(expected)


def test_raw_alignment_of_a_half_shared_label() -> None:
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4): (log2(4/3) + log2(2/3) / 2 + log2(2) / 2) / 2 = .3113, and 1 - .3113 ** .5 = .4421
    assert alignment(Sample.of([[1, 0]]), Sample.of([[1, 1]]), 1).raw == pytest.approx(0.4421, abs=1e-4)


def test_the_distribution_of_a_group_weighs_labels_over_all_posts() -> None:
    assert Sample.of([[1, 0, 0], [0, 0, 0], [0.5, 0.5, 2]]).distribution == pytest.approx([1.5 / 4, 0.5 / 4, 2 / 4])


def test_posts_without_a_label_are_not_counted() -> None:
    sample = Sample.of([[1, 0], [0, 0], [0, 1]], ["ann", "bob", "cat"])
    assert sample.n == 2
    assert sample.clusters.tolist() == [0, 1]


@pytest.mark.parametrize("weights", [[[0, 0]], [[1, -1]], [[1, float("nan")]], [1, 2], np.zeros((0, 3))])
def test_weights_without_a_distribution_are_refused(weights: object) -> None:
    with pytest.raises(ValueError, match=r"no post has a label|not negative"):
        Sample.of(weights)


def test_authors_are_drawn_whole() -> None:
    together = Sample.of([[1, 0], [1, 0], [0, 1], [0, 1]], ["ann", "ann", "bob", "bob"])
    shares = {round(float(draw), 3) for draw in together.draws(np.random.default_rng(1))[:, 0]}
    assert shares == {0, 0.5, 1}


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_intervals_hold_the_truth_as_often_as_they_say(share: float) -> None:
    p, other, third = distributions(11, 3)
    q, second = (1 - share) * p + share * other, 0.5 * p + 0.5 * third
    truth = {
        "alignment": 1 - bits(p, q) ** 0.5,
        "tendency": bits(p, second) - bits(p, q),
        "entropy": float(-(p * np.log2(p)).sum()),
        "gap": float((q * np.log2(q)).sum() - (p * np.log2(p)).sum()),
    }
    random, runs, hits = np.random.default_rng(3), 300, dict.fromkeys(truth, 0)
    for seed in range(runs):
        model, near, far = (posts(random, distribution, 80) for distribution in (p, q, second))
        found = {
            "alignment": alignment(model, near, seed, 300).estimate,
            "tendency": tendency(model, near, far, seed, 300).estimate,
            "entropy": entropy(model, seed, 300),
            "gap": entropy_gap(model, near, seed, 300).estimate,
        }
        for name, estimate in found.items():
            hits[name] += estimate.low <= truth[name] <= estimate.high
    assert {name: 0.92 <= hit / runs <= 0.98 for name, hit in hits.items()} == dict.fromkeys(truth, True), hits


def test_intervals_of_equal_groups_reach_one_and_the_estimate_lies_above_the_raw_figure() -> None:
    random, p = np.random.default_rng(5), distributions(11)[0]
    found = [alignment(posts(random, p), posts(random, p), seed, 200) for seed in range(60)]
    assert np.mean([result.estimate.high > 0.999 for result in found]) > 0.9
    assert np.mean([result.raw for result in found]) < 0.9 < np.mean([result.estimate.value for result in found])


def test_equal_groups_score_at_the_floor() -> None:
    random, p = np.random.default_rng(7), distributions(11)[0]
    human = posts(random, p, authors=400, each=1)
    lowest, n = floor(human, 100, 1)
    assert n == 100
    scores = [alignment(posts(random, p, authors=100, each=1), posts(random, p, authors=100, each=1), seed, 2).raw for seed in range(60)]
    assert np.mean(scores) == pytest.approx(lowest.estimate.value, abs=0.01)


def test_two_samples_of_a_thousand_from_one_distribution_do_not_score_one() -> None:
    random = np.random.default_rng(2)
    sample = Sample.of(np.eye(LABELS)[random.integers(0, LABELS, size=2000)])
    found, _ = floor(sample, 1000, 1)
    assert found.estimate.value == pytest.approx(0.94, abs=0.01)
    assert floor(sample, 100, 1)[0].estimate.value == pytest.approx(0.81, abs=0.02)


def test_the_floor_of_a_small_group_is_that_of_its_halves() -> None:
    sample = posts(np.random.default_rng(1), distributions(1)[0], authors=15, each=2)
    assert floor(sample, 500, 1)[1] == 15
    with pytest.raises(ValueError, match="cannot be split"):
        floor(Sample.of([[1, 0]]), 5, 1)


def test_an_author_is_in_one_half_only() -> None:
    # Two authors of opposite habits: halves that mixed them would be alike.
    sample = Sample.of([[1, 0]] * 10 + [[0, 1]] * 10, ["ann"] * 10 + ["bob"] * 10)
    assert floor(sample, 10, 1)[0].estimate.value == 0


def test_figures_at_the_same_n_fall_with_n() -> None:
    random, p = np.random.default_rng(4), distributions(3)[0]
    first, second = posts(random, p, 200), posts(random, p, 200)
    at_20, at_200 = raw_at(first, second, 20, 1), raw_at(first, second, 200, 1)
    assert (at_20[1], at_200[1]) == (20, 200)
    assert at_20[0].estimate.value < at_200[0].estimate.value
    assert raw_at(first, posts(random, p, 10), 200, 1)[1] == 20


def test_a_model_that_copies_a_group_is_nearest_to_it_and_swapping_the_groups_swaps_the_sign() -> None:
    random = np.random.default_rng(6)
    liberal, conservative = (posts(random, distribution, 100) for distribution in distributions(8, 2))
    found = tendency(liberal, liberal, conservative, 1).estimate
    swapped = tendency(liberal, conservative, liberal, 1).estimate
    assert 0 < found.low < found.value < found.high
    assert swapped.high < 0
    assert swapped.value == pytest.approx(-found.value, rel=0.1)
    between = Sample.of(np.concatenate([liberal.weights, conservative.weights]))
    middle = tendency(between, liberal, conservative, 1).estimate
    assert middle.low < 0 < middle.high


def test_entropy_is_in_bits_and_of_one_label_zero() -> None:
    assert entropy(Sample.of([[1, 0]] * 5), 1).high == 0
    even = entropy(Sample.of(np.eye(4).repeat(250, axis=0)), 1)
    assert even.value == pytest.approx(2, abs=0.01)
    sure = entropy_gap(Sample.of([[1, 0, 0, 0]] * 50), Sample.of(np.eye(4).repeat(50, axis=0)), 1).estimate
    assert sure.value == pytest.approx(-2, abs=0.03)
    assert sure.high < 0


def test_an_average_holds_what_differs_between_topics() -> None:
    alike = average([0.5, 0.5, 0.5], [np.full(500, 0.5)] * 3, 1)
    assert (alike.value, alike.low, alike.high) == (0.5, 0.5, 0.5)
    unlike = average([0.2, 0.5, 0.8], [np.full(500, value) for value in (0.2, 0.5, 0.8)], 1)
    assert unlike.value == pytest.approx(0.5)
    assert unlike.low < 0.3
    assert unlike.high > 0.7


def test_an_average_over_topics_holds_the_truth_about_as_often_as_it_says() -> None:
    random, hits, runs = np.random.default_rng(9), 0, 60
    p = distributions(11)[0]
    habits = [0.6 * p + 0.4 * other for other in distributions(12, 400)]
    truth = float(np.mean([1 - bits(p, habit) ** 0.5 for habit in habits]))
    for seed in range(runs):
        topics = [alignment(posts(random, p, 40), posts(random, habits[k], 40), seed, 150) for k in random.integers(0, 400, size=10)]
        found = average([topic.estimate.value for topic in topics], [topic.draws for topic in topics], seed)
        hits += found.low <= truth <= found.high
    assert hits / runs >= 0.9
