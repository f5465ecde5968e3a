import pytest

from stages.llm.naming import by_first_token, by_votes

SCORES = ("No", "Hardly", "Yes", "Absolutely")


def shares(listed: list[tuple[str, float]], options: tuple[str, ...]) -> list[float]:
    found = by_first_token(listed, options)
    assert found
    assert sum(found.probabilities) == pytest.approx(1)
    return list(found.probabilities)


def test_probabilities_of_first_tokens_are_scaled_and_their_sum_is_the_mass() -> None:
    found = by_first_token([("Yes", 0.3), ("No", 0.1), ("Well", 0.2)], ("Yes", "No"))
    assert found
    assert found.probabilities == pytest.approx((0.75, 0.25))
    assert found.mass == pytest.approx(0.4)


def test_a_blank_before_and_a_mark_after_do_not_matter() -> None:
    assert shares([("Yes", 0.1), (" Yes", 0.2), ("Yes.", 0.1), ("No", 0.1), ("Nobody", 0.3)], ("Yes", "No")) == pytest.approx([0.8, 0.2])


def test_case_matters() -> None:
    assert shares([("yes", 0.5), ("Yes", 0.1), ("No", 0.1)], ("Yes", "No")) == pytest.approx([0.5, 0.5])


def test_the_longest_beginning_counts() -> None:
    assert shares([("A", 0.5), ("Absol", 0.1), ("No", 0.1)], ("No", "Absolutely")) == pytest.approx([0.5, 0.5])


def test_an_option_that_is_not_listed_gets_a_tenth_of_the_smallest_probability() -> None:
    found = by_first_token([("Yes", 0.4), ("No", 0.3), ("Well", 0.1)], ("Yes", "No", "Perhaps"))
    assert found
    assert found.probabilities == pytest.approx((0.4 / 0.71, 0.3 / 0.71, 0.01 / 0.71))
    assert found.mass == pytest.approx(0.7)


def test_it_gets_no_more_than_is_left() -> None:
    assert shares([("Yes", 0.999), ("No", 0.001)], ("Yes", "Perhaps")) == pytest.approx([1, 0], abs=1e-6)


def test_one_letter_is_more_likely_another_word() -> None:
    assert shares([("No", 0.5), ("A", 0.2), ("Yes", 0.1)], SCORES) == pytest.approx([0.5 / 0.62, 0.01 / 0.62, 0.1 / 0.62, 0.01 / 0.62])


def test_one_letter_counts_where_it_is_a_word_of_the_option() -> None:
    assert shares([("I", 0.3), ("We", 0.1)], ("I agree", "We do not")) == pytest.approx([0.75, 0.25])
    assert shares([("A", 0.3), ("B", 0.1)], ("A", "B")) == pytest.approx([0.75, 0.25])


def test_one_sign_counts_where_it_is_no_letter_of_ours() -> None:
    assert shares([("同", 0.3), ("反", 0.1)], ("同意", "反对")) == pytest.approx([0.75, 0.25])
    assert shares([("1", 0.3), ("2", 0.1)], ("10", "20")) == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize(
    ("listed", "options"),
    [
        ([("Strongly", 0.5), ("Agree", 0.4)], ("Strongly agree", "Agree", "Strongly disagree")),
        ([("1", 0.5), ("2", 0.2)], ("1", "2", "10")),
        ([("Agree", 0.5)], ("Agree", "Agree strongly")),
        ([], ("Yes", "No")),
    ],
)
def test_options_that_begin_alike_are_not_told_apart(listed: list[tuple[str, float]], options: tuple[str, ...]) -> None:
    assert by_first_token(listed, options) is None


def test_a_vocabulary_with_the_longer_number_tells_it_apart() -> None:
    assert shares([("1", 0.3), ("10", 0.1)], ("1", "10")) == pytest.approx([0.75, 0.25])


def test_no_option_listed_is_no_mass() -> None:
    found = by_first_token([("Well", 0.5), ("Hm", 0.1)], ("Yes", "No"))
    assert found
    assert found.probabilities == (0.5, 0.5)
    assert found.mass == 0


def test_votes_are_counted_with_one_more_spread_evenly() -> None:
    found = by_votes(["Yes", "yes, it is", ' "Yes"', "**No**", "Maybe", "Yesterday"], ("Yes", "No"))
    assert found.probabilities == pytest.approx((3.5 / 5, 1.5 / 5))
    assert found.mass == pytest.approx(4 / 6)


def test_the_longest_option_is_meant() -> None:
    found = by_votes(["Agree strongly", "Agree."], ("Agree", "Agree strongly"))
    assert found.probabilities == pytest.approx((0.5, 0.5))


def test_case_tells_apart_what_differs_by_nothing_else() -> None:
    assert by_votes(["b", "b", "B"], ("B", "b")).probabilities == pytest.approx((1.5 / 4, 2.5 / 4))


def test_votes_for_nothing_are_equal_probabilities_without_mass() -> None:
    found = by_votes(["Hm"], ("Yes", "No"))
    assert found.probabilities == (0.5, 0.5)
    assert found.mass == 0
