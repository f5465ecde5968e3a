from itertools import product

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from stages.statistics.permutation import sign_flip


def alike(n: int) -> np.ndarray:
    return np.zeros(n, dtype=int)


def test_few_items_give_the_exact_value_of_all_sign_flips() -> None:
    items = np.array([0.4, 1.1, -0.2, 0.9, 0.7])
    differences = items[:, None] + np.array([-0.3, 0.0, 0.3])  # the cells of a row belong together
    means = [np.mean(items * signs) for signs in product([1, -1], repeat=5)]
    expected = np.mean(np.abs(means) >= items.mean() - 1e-12)
    assert sign_flip(differences, alike(5), 1) == pytest.approx(expected)


def test_many_normal_items_give_about_the_value_of_the_t_test() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, size=(60, 1))
    assert sign_flip(differences, alike(60), 1) == pytest.approx(ttest_1samp(differences[:, 0], 0).pvalue, abs=0.01)


def test_more_wordings_of_the_same_items_do_not_add_evidence() -> None:
    differences = np.random.default_rng(1).normal(0.3, 1, size=(40, 1))
    assert sign_flip(np.repeat(differences, 20, axis=1), alike(40), 1) == pytest.approx(sign_flip(differences, alike(40), 1))


def test_a_habit_that_the_keying_cancels_does_not_hide_a_difference() -> None:
    directions = np.repeat([1, -1], 16)
    shift = 0.3 + np.random.default_rng(2).normal(0, 0.3, size=(32, 1))
    agreeing = shift + 2.0 * directions[:, None]
    assert sign_flip(agreeing, alike(32), 1) > 0.3
    assert sign_flip(agreeing, directions, 1) == pytest.approx(sign_flip(shift, directions, 1))
    assert sign_flip(agreeing, directions, 1) < 0.001


def test_without_a_difference_values_below_one_in_twenty_are_about_that_frequent() -> None:
    random = np.random.default_rng(3)
    directions = np.repeat([1, -1], 8)
    low = 0
    for seed in range(200):
        differences = random.normal(size=(16, 1)) + 0.5 * random.normal(size=(16, 4)) + 3 * random.normal() * directions[:, None]
        low += sign_flip(differences, directions, seed) < 0.05
    assert 2 <= low <= 20


def test_the_sign_of_the_difference_does_not_matter() -> None:
    differences = np.random.default_rng(4).normal(0.2, 1, size=(12, 2))
    assert sign_flip(differences, alike(12), 1) == pytest.approx(sign_flip(-differences, alike(12), 1))
