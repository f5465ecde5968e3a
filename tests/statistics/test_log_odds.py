import numpy as np
import pytest

from stages.statistics.log_odds import log_odds


def test_the_formula_on_two_words() -> None:
    # Prior of 2 words over a background of 3 + 1: a = (1.5, .5). Word 1: log((3 + 1.5) / (1 + .5)) - log((1 + 1.5) / (3 + .5)), over
    # sqrt(1 / 4.5 + 1 / 2.5); word 2 is its mirror image in the odds: log(1.5 / 4.5) - log(3.5 / 2.5), over sqrt(1 / 1.5 + 1 / 3.5).
    found = log_odds([3, 1], [1, 3], [3, 1], 2)
    assert found == pytest.approx([(np.log(3) - np.log(2.5 / 3.5)) / np.sqrt(1 / 4.5 + 1 / 2.5), (np.log(1 / 3) - np.log(3.5 / 2.5)) / np.sqrt(1 / 1.5 + 1 / 3.5)])


def test_swapping_the_corpora_swaps_the_sign() -> None:
    random = np.random.default_rng(1)
    first, second = random.poisson(4, 30), random.poisson(4, 30)
    assert log_odds(first, second, first + second + 1, 10) == pytest.approx(-log_odds(second, first, first + second + 1, 10))


def test_the_same_words_mark_nothing() -> None:
    assert log_odds([5, 2, 9], [5, 2, 9], [10, 4, 18], 10) == pytest.approx([0, 0, 0])


def test_a_frequent_word_marks_more_surely_than_a_rare_one_that_is_in_one_corpus_alone() -> None:
    first, second = np.array([3, 300, 1000]), np.array([0, 200, 1100])
    rare, frequent, _ = log_odds(first, second, first + second, 100)
    assert 0 < rare < frequent


def test_a_word_outside_the_background_is_never_marking() -> None:
    found = log_odds([5, 5, 2], [5, 0, 4], [5, 0, 6], 1)
    assert found[1] == 0
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match="no word"):
        log_odds([1], [1], [0], 1)
