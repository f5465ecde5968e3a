import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from stages.statistics.coefficients import indicators, regress, sign_agreement

RANDOM = np.random.default_rng(0)
N = 800
PARTY = ["left" if draw < 0.6 else "right" for draw in RANDOM.random(N)]
SEX = [["male", "female", None][draw] for draw in RANDOM.integers(0, 3, N)]
NAMES, KNOWN = indicators({"party": PARTY, "sex": SEX})
RIGHT = KNOWN[:, NAMES.index("party=right")]
NOISE = RANDOM.normal(size=(2, N)) * 0.5
EQUAL = np.ones(N)


def test_labels_are_told_against_the_most_frequent_one() -> None:
    names, known = indicators({"party": ["a", "b", "a", None], "only": ["x"] * 4})
    assert names == ["party=", "party=b"]
    assert known.tolist() == [[0, 0], [0, 1], [0, 0], [1, 0]]


def test_coefficients_are_scikit_learns() -> None:
    scores, weights = RIGHT + NOISE[0], RANDOM.uniform(0.1, 3, N)
    assert regress(scores, KNOWN, weights).coefficients == pytest.approx(LinearRegression().fit(KNOWN, scores, weights).coef_)


def test_standard_errors_are_those_of_a_difference_of_means() -> None:
    scores = np.where(RIGHT == 1, 1 + NOISE[0] * 3, NOISE[0])
    fit = regress(scores, RIGHT[:, None], EQUAL)
    parts = [scores[RIGHT < 0.5], scores[RIGHT > 0.5]]
    assert fit.coefficients == pytest.approx([parts[1].mean() - parts[0].mean()])
    assert fit.errors == pytest.approx([np.sqrt(sum(part.var() / len(part) for part in parts))])


def test_only_coefficients_of_a_known_sign_are_compared() -> None:
    found = sign_agreement(RIGHT + NOISE[0], 0.2 * RIGHT + NOISE[1] * 0.1, KNOWN, EQUAL)
    assert found is not None
    assert (found.share, found.n) == (1.0, 1)


def test_a_model_with_the_opposite_view_of_groups_agrees_in_nothing() -> None:
    found = sign_agreement(RIGHT + NOISE[0], NOISE[1] - RIGHT, KNOWN, EQUAL)
    assert found is not None
    assert found.share == 0


def test_a_model_that_answers_alike_for_all_agrees_in_nothing() -> None:
    found = sign_agreement(RIGHT + NOISE[0], np.full(N, 0.5), KNOWN, EQUAL)
    assert found is not None
    assert found.share == 0


def test_where_no_group_differs_there_is_nothing_to_agree_on() -> None:
    assert sign_agreement(np.full(N, 0.5), RIGHT, KNOWN, EQUAL) is None
