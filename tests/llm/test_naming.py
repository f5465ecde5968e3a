from collections.abc import Mapping

import pytest

from stages.llm.naming import Listing, Naming, Untold, by_tokens, by_votes, is_constrained

SCORES = ("No", "Hardly", "Yes", "Absolutely")


def named(listed: Mapping[str, Listing] | Listing, options: tuple[str, ...]) -> Naming:
    """Options named by first tokens, or by tokens after several beginnings."""
    found = by_tokens(listed if isinstance(listed, Mapping) else {"": listed}, options)
    assert isinstance(found, Naming), found
    assert sum(found.probabilities) == pytest.approx(1)
    return found


def shares(listed: Mapping[str, Listing] | Listing, options: tuple[str, ...]) -> list[float]:
    return list(named(listed, options).probabilities)


def test_probabilities_of_first_tokens_are_scaled_and_their_sum_is_the_mass() -> None:
    found = named([("Yes", 0.3), ("No", 0.1), ("Well", 0.2)], ("Yes", "No"))
    assert found.probabilities == pytest.approx((0.75, 0.25))
    assert found.mass == pytest.approx(0.4)


def test_a_blank_before_and_a_mark_after_do_not_matter() -> None:
    assert shares([("Yes", 0.1), (" Yes", 0.2), ("Yes.", 0.1), ("No", 0.1), ("Nobody", 0.3)], ("Yes", "No")) == pytest.approx([0.8, 0.2])


def test_case_matters() -> None:
    assert shares([("yes", 0.5), ("Yes", 0.1), ("No", 0.1)], ("Yes", "No")) == pytest.approx([0.5, 0.5])


def test_the_longest_beginning_counts() -> None:
    assert shares([("A", 0.5), ("Absol", 0.1), ("No", 0.1)], ("No", "Absolutely")) == pytest.approx([0.5, 0.5])


def test_an_option_that_is_not_listed_gets_a_tenth_of_the_smallest_probability() -> None:
    found = named([("Yes", 0.4), ("No", 0.3), ("Well", 0.1)], ("Yes", "No", "Perhaps"))
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
    ("listed", "options", "beginning"),
    [
        ([("Strongly", 0.5), ("Agree", 0.4)], ("Strongly agree", "Agree", "Strongly disagree"), "Strongly"),
        ([("1", 0.5), ("2", 0.2)], ("1", "2", "10"), "1"),
        ([("1", 0.2), ("2", 0.5)], ("1", "2", "10", "20"), "2"),
        ([("Agree", 0.5)], ("Agree", "Agree strongly"), "Agree"),
        ([], ("Yes", "No"), ""),
    ],
)
def test_options_that_begin_alike_are_not_told_apart_by_their_first_token(listed: Listing, options: tuple[str, ...], beginning: str) -> None:
    assert by_tokens({"": listed}, options) == Untold(beginning)


def test_what_follows_a_shared_beginning_is_multiplied_with_it() -> None:
    listed = {"": [("Strongly", 0.5), ("Agree", 0.3)], "Strongly": [(" agree", 0.8), (" dis", 0.1), ("!", 0.1)]}
    found = named(listed, ("Strongly agree", "Agree", "Strongly disagree"))
    assert found.probabilities == pytest.approx((0.4 / 0.75, 0.3 / 0.75, 0.05 / 0.75))
    assert found.mass == pytest.approx(0.75)


@pytest.mark.parametrize("end", ["", "<|im_end|>", "</s>"])
def test_an_option_that_begins_another_is_named_where_the_answer_ends(end: str) -> None:
    listed = {"": [("1", 0.5), ("2", 0.2)], "1": [(end, 0.4), (".", 0.1), ("0", 0.3), ("0.", 0.1), ("st", 0.1)]}
    found = named(listed, ("1", "2", "10"))
    assert found.probabilities == pytest.approx((0.2 / 0.6, 0.2 / 0.6, 0.2 / 0.6))
    assert found.mass == pytest.approx(0.6)


def test_words_after_an_option_that_begins_another_name_the_longer_one() -> None:
    listed = {"": [("Agree", 1.0)], "Agree": [(" str", 0.2), (" strongly", 0.2), ("<|eot_id|>", 0.4), (".", 0.2)]}
    assert shares(listed, ("Agree", "Agree strongly")) == pytest.approx([2 / 3, 1 / 3])


def test_beginnings_may_be_shared_over_several_tokens() -> None:
    options = ("Very likely", "Very unlikely", "Very unsure")
    listed: dict[str, Listing] = {"": [("Very", 1.0)], "Very": [(" likely", 0.6), (" un", 0.4)]}
    assert by_tokens(listed, options) == Untold("Very un")
    listed["Very un"] = [("likely", 0.75), ("sure", 0.25)]
    assert shares(listed, options) == pytest.approx([0.6, 0.3, 0.1])


def test_an_option_that_does_not_follow_a_shared_beginning_gets_a_tenth_of_the_smallest_probability() -> None:
    listed = {"": [("1", 0.5)], "1": [("0", 0.6), ("1", 0.3), (".", 0.05)]}
    assert shares(listed, ("10", "11", "12")) == pytest.approx([0.6 / 0.905, 0.3 / 0.905, 0.005 / 0.905])


def test_a_shared_beginning_that_hardly_counts_is_spread_evenly() -> None:
    found = named([("No", 0.496), ("Strongly", 0.004)], ("Strongly agree", "Strongly disagree", "No"))
    assert found.probabilities == pytest.approx((0.004, 0.004, 0.992))
    assert found.mass == pytest.approx(0.5)
    assert by_tokens({"": [("No", 0.49), ("Strongly", 0.01)]}, ("Strongly agree", "Strongly disagree", "No")) == Untold("Strongly")


def test_a_number_that_is_not_listed_does_not_begin_with_a_digit_where_others_are_one_token() -> None:
    assert shares([("15", 0.6), ("1", 0.3), ("3", 0.1)], ("1", "15", "17")) == pytest.approx([0.3 / 0.9001, 0.6 / 0.9001, 0.0001 / 0.9001], abs=1e-3)


@pytest.mark.parametrize(
    ("listing", "constrained"),
    [([("Strong", 0.9), (" Strongly", 0.1)], True), ([("Strongly", 1.0), ("No", 0.0)], True), ([("Strongly", 0.9), ("No", 1e-6)], False)],
)
def test_first_tokens_tell_whether_other_answers_had_been_ruled_out(listing: Listing, constrained: bool) -> None:
    assert is_constrained(listing, "Strongly agree") == constrained


def test_a_vocabulary_with_the_longer_number_tells_it_apart() -> None:
    assert shares([("1", 0.3), ("10", 0.1)], ("1", "10")) == pytest.approx([0.75, 0.25])


def test_no_option_listed_is_no_mass() -> None:
    found = named([("Well", 0.5), ("Hm", 0.1)], ("Yes", "No"))
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
