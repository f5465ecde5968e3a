from stages.llm.cutting import cut_at_sentence


def test_text_ends_at_a_sentence_in_its_second_half() -> None:
    assert cut_at_sentence("One two. Three four. Five", 22) == "One two. Three four."


def test_text_without_one_there_is_cut_hard() -> None:
    assert cut_at_sentence("One. Two three four five", 20) == "One. Two three four "
    assert cut_at_sentence("abc", 0) == ""
    assert cut_at_sentence("abc", -5) == ""
