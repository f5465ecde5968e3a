import re

import pytest

from stages.instruments import fluency


def test_repetition_counts_spans_that_come_back() -> None:
    assert fluency.repetition(["one two three four five six"]) == 0
    # a b c d a b c d: spans abcd bcda cdab dabc abcd, of which the last one is a repeat
    assert fluency.repetition(["a b c d a b c d"]) == pytest.approx(1 / 5)
    assert fluency.repetition(["too short", ""]) == 0


def test_the_same_words_in_two_texts_are_no_repetition_but_less_variety() -> None:
    twice = ["we like to walk home", "We like to walk home!"]
    assert fluency.repetition(twice) == 0
    assert fluency.distinct(twice, 1) == pytest.approx(1 / 2)
    assert fluency.distinct(["a b a b"], 2) == pytest.approx(2 / 3)
    assert fluency.distinct([], 1) == 0


def test_declining_and_silence_are_refusals() -> None:
    pattern = re.compile("(?i)as an ai")
    assert fluency.refusals(["As an AI, I cannot say.", " ", "Yes, do it.", "No, never."], pattern) == 0.5
    with pytest.raises(ValueError, match="no texts"):
        fluency.refusals([], pattern)
