import pytest

from stages.llm.readable import readable


@pytest.mark.parametrize("text", ["", "The answer is:", "Yes, I do.", "tax tax tax tax tax tax tax", "no no and no and no and no and no"])
def test_empty_short_and_circling_answers_are_not_readable(text: str) -> None:
    assert not readable(text)


def test_a_plain_sentence_is_readable() -> None:
    assert readable("The government should help people who cannot pay their rent.")
