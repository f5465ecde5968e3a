"""The protocol of PoliTune (2024): an integer from 0 (strongly disagree) on and a reason, sampled, so that its figures can be repeated.

A text is read as an answer only if it gives its integer at the beginning or names it as its answer; the first number of a numbered list is none.
"""

import re
from pathlib import Path

import numpy as np

from stages.core.params import Section, parse, read_yaml
from stages.instruments import replies
from stages.instruments.instrument import Instrument
from stages.instruments.replies import Replies, Sampled
from stages.llm.interface import LanguageModel

PROMPT = Path("prompts/instruments/paper.yaml")
NAMED = r"(?:answer|choice|integer|number|rating|response|score)\W*(?:(?:is|would be|of)\W*)?"
INTEGER = r"(?P<integer>\d+)(?![.,]?\d)"
FORMS = (re.compile(rf"\W*(?:(?:my|the)\W+)?(?:{NAMED})?{INTEGER}", re.IGNORECASE), re.compile(rf".*?\b{NAMED}{INTEGER}", re.IGNORECASE | re.DOTALL))


class Wording(Section):
    """The prompt file."""

    wording: str


def ask(model: LanguageModel, instrument: Instrument, settings: Sampled, seed: int) -> Replies:
    """Let a model answer with an integer and a reason."""
    wording = parse(Wording, read_yaml(PROMPT), str(PROMPT)).wording
    written = replies.write(model, instrument, wording, settings, seed)
    k = len(instrument.options)
    chances = np.full((len(written.texts), settings.repeats, k), np.nan)
    for row, texts in zip(chances, written.texts, strict=True):
        for j, text in enumerate(texts):
            answer = read(text, k)
            if answer is not None:
                row[j] = np.eye(k)[answer]
    return Replies(instrument, written, chances)


def read(text: str, k: int) -> int | None:
    """The integer below ``k`` that a text answers with, if it can be told."""
    match = next(filter(None, (form.match(text) for form in FORMS)), None)
    if match is None:
        return None
    answer = int(match["integer"])
    listed = re.search(rf"(?m)^\W*{answer + 1}[.)]\s", text[match.end() :])
    return answer if answer < k and not listed else None
