import numpy as np
import pytest

from stages.surveys.leakage import explained, leaking, one_hot

RANDOM = np.random.default_rng(0)
ANSWERS = {f"item{i}": [["no", "maybe", "yes"][code] for code in RANDOM.integers(0, 3, 400)] for i in range(4)}
SUM = [sum(["no", "maybe", "yes"].index(ANSWERS[item][i]) for item in ANSWERS) for i in range(400)]


def test_a_sum_of_answers_leaks() -> None:
    found = leaking({"total": [str(total) for total in SUM]}, {"total": [float(total) for total in SUM]}, ANSWERS)
    assert found == {"total": pytest.approx(1)}


def test_a_copy_of_an_answer_leaks_under_any_names() -> None:
    assert leaking({"mood": [{"no": "a", "maybe": "b", "yes": "c"}[answer] for answer in ANSWERS["item2"]]}, {}, ANSWERS) == {"mood": pytest.approx(1)}


def test_noise_leaks_nothing_however_many_the_answers() -> None:
    noise = RANDOM.normal(size=(400, 1))
    assert explained(noise, np.column_stack([one_hot(answers) for answers in ANSWERS.values()])) < 0.05


def test_an_opinion_that_groups_differ_in_is_no_leak() -> None:
    party = ["left" if answer == "yes" or RANDOM.random() < 0.3 else "right" for answer in ANSWERS["item0"]]
    assert leaking({"party": party}, {}, ANSWERS) == {}


def test_too_few_respondents_tell_nothing() -> None:
    few = {item: answers[:10] for item, answers in ANSWERS.items()}
    assert leaking({"total": ["x"] * 10}, {"total": [float(total) for total in SUM[:10]]}, few) == {}


def test_numbers_that_are_missing_are_left_out() -> None:
    numbers = [None if i % 5 == 0 else float(total) for i, total in enumerate(SUM)]
    assert leaking({"total": ["x"] * 400}, {"total": numbers}, ANSWERS) == {"total": pytest.approx(1)}
