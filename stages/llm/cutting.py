"""Text shortened where it hurts least."""


def cut_at_sentence(text: str, length: int) -> str:
    """The beginning of ``text`` within ``length`` characters, ending at a sentence where one ends in its second half."""
    start = text[: max(length, 0)]
    end = max(start.rfind(mark) for mark in (". ", "! ", "? ", "\n"))
    return start[: end + 1] if end > len(start) // 2 else start
