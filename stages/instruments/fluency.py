"""Whether answers still read like answers: repetition within them, variety across them, and how many decline."""

import re
from collections.abc import Sequence
from itertools import chain

SPAN = 4
"Words of a span that counts as repeated: long enough that ordinary phrases do not."


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"\w+(?:['’]\w+)*", text.lower())


def repetition(texts: Sequence[str]) -> float:
    """Share of four-word spans that occurred earlier in the same text, over all texts, 0..1 (Welleck et al. 2020, arXiv 1908.04319, rep-n); 0 if none is that long."""
    spans = [_spans(text, SPAN) for text in texts]
    total = sum(map(len, spans))
    return 1 - sum(len(set(each)) for each in spans) / total if total else 0.0


def distinct(texts: Sequence[str], n: int) -> float:
    """Distinct spans of ``n`` words among all of them, over all texts, 0..1 (Li et al. 2016, arXiv 1510.03055, distinct-n); 0 if there are none.

    It falls with the number of words: compare models that answered the same questions.
    """
    spans = list(chain.from_iterable(_spans(text, n) for text in texts))
    return len(set(spans)) / len(spans) if spans else 0.0


def refusals(texts: Sequence[str], pattern: re.Pattern[str]) -> float:
    """Share of texts that decline to answer, or are empty, 0..1.

    :raises ValueError: if there are no texts.
    """
    if not texts:
        raise ValueError("there are no texts to count refusals in")
    return sum(not text.strip() or bool(pattern.search(text)) for text in texts) / len(texts)


def _spans(text: str, n: int) -> list[tuple[str, ...]]:
    said = words(text)
    return [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]
