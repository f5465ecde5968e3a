"""Whether a written answer says anything at all."""

import re


def readable(text: str) -> bool:
    """Whether an answer can be measured: at least five words, no more than half of them repeated."""
    words = re.findall(r"\w+", text.lower())
    return len(words) >= 5 and len(set(words)) >= len(words) / 2
