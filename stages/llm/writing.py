"""One written answer a row, read and checked: accepted into the table, or put aside with a reason."""

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from stages.core import tables
from stages.llm.interface import Completion, LanguageModel, Sampling, in_order
from stages.llm.prompts import Task

Reason = Literal["empty", "unreadable", "endless", "refusal", "copy", "example"]
"""Why an answer was refused: nothing written, not in the asked form, no sentence ended, the model declined, the text repeats what it was given, or an example of
the prompt."""

REFUSAL = re.compile(
    r"\b(?:as an ai|i(?:['’]m| am) (?:sorry(?! (?:for\b|about\b|you\b|that (?!i\b)|to (?:hear|see|learn|read)\b))|unable|not able)"
    r"|i (?:can['’]t|cannot|can not) (?:help|assist|answer|provide|fulfil)|language model)\b",
    re.IGNORECASE,
)
"Who is sorry for, about or to hear something feels with somebody."
SENTENCE = 6
"Words from which an answer is compared with the examples run by run; shorter ones only as a whole, as topics share words."
SENTENCE_END = re.compile(r"[.!?][\"'”’)]*(?=\s|$)")


@dataclass(frozen=True)
class Written:
    """What became of one answer."""

    text: str
    "as accepted, or as the model wrote it if refused"
    reason: Reason | None
    "why it was refused"


@dataclass(frozen=True)
class Rows:
    """The rows of a stage, complete."""

    good: list[dict[str, str]]
    rejected: list[dict[str, str]]
    "with their ``reason``"

    def save(self, what: str, target: Path, rejected: Path, schema: pa.Schema, origin: Mapping[str, str | int]) -> None:
        """Write both tables and say how many there are; ``what`` names stage and leaning."""
        tables.write(target, self.good, schema, origin)
        tables.write(rejected, self.rejected, tables.rejects(schema))
        print(f"{what}: {len(self.good)} written, {len(self.rejected)} rejected {dict(Counter(row['reason'] for row in self.rejected))}", file=sys.stderr)


def write(model: LanguageModel, task: Task, leaning: str, asked: Sequence[tuple[Mapping[str, str], Mapping[str, str]]], column: str, sampling: Sampling) -> Rows:
    """Ask ``task`` about each (values for the placeholders, row so far) and put the checked answer into ``column`` of the row."""
    answers = in_order(model.generate([task.render(leaning, given) for given, _ in asked], sampling), len(asked))
    found = Rows([], [])
    for (given, row), answer in zip(asked, answers, strict=True):
        written = check(answer, task, given)
        if written.reason:
            found.rejected.append({**row, column: written.text, "reason": written.reason})
        else:
            found.good.append({**row, column: written.text})
    return found


def check(answer: Completion, task: Task, given: Mapping[str, str]) -> Written:
    """Accept an answer, without a last sentence that was broken off, or say why not."""
    if not answer.text.strip():
        return Written(answer.text, "empty")
    text = answer.text
    if answer.finish == "length":
        ends = [match.end() for match in SENTENCE_END.finditer(text)]
        if not ends:
            return Written(text, "endless")
        text = text[: ends[-1]]
    found = task.read(text)
    if found is None:
        return Written(answer.text, "unreadable")
    if REFUSAL.search(found):
        return Written(answer.text, "refusal")
    if any(_copies(found, value) for value in given.values()):
        return Written(answer.text, "copy")
    if found in task.example_answers or (len(found.split()) >= SENTENCE and any(_copies(found, example or "") for example in task.example_answers)):
        return Written(answer.text, "example")
    return Written(found, None)


def _copies(text: str, source: str) -> bool:
    """Whether nearly all of ``text`` (8 words in 10) stands in ``source`` in the same runs of three words."""
    ours, theirs = _triples(text), _triples(source)
    return bool(ours) and len(ours & theirs) >= 0.8 * len(ours)


def _triples(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + 3]) for i in range(max(0, len(words) - 2))}
