"""Issues, their topics, and the phrases that tell them in a text: ``prompts/topics/<issue>.yaml``.

A phrase is one or more words, matched whole and in any case. ``*`` at the end of a word stands for any ending: ``vaccin*``. Between two words of a
phrase there may be a blank, a hyphen or nothing, so that ``lab leak`` finds ``lab-leak`` and ``#LabLeak`` too.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated

import pydantic

from stages.core.errors import InputError
from stages.core.params import Section, parse, read_yaml

WORD = re.compile(r"[\w'&.$-]+\*?")


def _checked(phrases: tuple[str, ...]) -> tuple[str, ...]:
    for phrase in phrases:
        if not phrase.split() or not all(WORD.fullmatch(word) for word in phrase.split()):
            raise ValueError(f"'{phrase}' is no phrase: write words of letters and digits, with one blank between two; only the end of a word may be *")
    if repeated := sorted({phrase for phrase in phrases if phrases.count(phrase) > 1}):
        raise ValueError(f"listed twice: {', '.join(repeated)}")
    return phrases


def pattern(phrases: Sequence[str]) -> re.Pattern[str]:
    """What finds any of ``phrases``; nothing if there are none."""
    if not phrases:
        return re.compile(r"(?!)")
    words = [[re.escape(word.removesuffix("*")).replace("'", "['’]?") + (r"\w*" if word.endswith("*") else "") for word in phrase.split()] for phrase in phrases]
    return re.compile(r"(?<!\w)(?:" + "|".join(r"[\s_-]*".join(phrase) for phrase in words) + r")(?!\w)", re.IGNORECASE)


Phrases = Annotated[tuple[str, ...], pydantic.AfterValidator(_checked)]


class Topic(Section):
    """One topic of an issue."""

    name: str
    "as a reader is told: the origins of the virus"
    phrases: Phrases = pydantic.Field(min_length=1)
    "that tell a post on it"
    marking: Phrases = ()
    "further phrases, taken over from the table of terms that mark the topic in a corpus"

    @cached_property
    def found_by_phrases(self) -> re.Pattern[str]:
        """What finds it by its own phrases alone."""
        return pattern(self.phrases)

    @cached_property
    def found(self) -> re.Pattern[str]:
        """What finds it."""
        return pattern((*self.phrases, *self.marking))


class Issue(Topic):
    """One file: a topic that holds others."""

    topics: dict[str, Topic] = pydantic.Field(min_length=1)

    def topics_of(self, text: str, *, widened: bool = True) -> list[str]:
        """The topics of a post on this issue, in the order of the file; with ``widened``, by the marking terms too."""
        return [name for name, topic in self.topics.items() if (topic.found if widened else topic.found_by_phrases).search(text)]


def issue_of(text: str, issues: Mapping[str, Issue], *, widened: bool = True) -> str | None:
    """The issue with most phrases in ``text``, repeats not counted; nothing without any, or where two issues have as many."""
    patterns = {name: issue.found if widened else issue.found_by_phrases for name, issue in issues.items()}
    counts = {name: len({match.lower() for match in found.findall(text)}) for name, found in patterns.items()}
    most = max(counts.values(), default=0)
    leading = [name for name, count in counts.items() if count == most]
    return leading[0] if most and len(leading) == 1 else None


def load(folder: Path, names: Sequence[str]) -> dict[str, Issue]:
    """Read and check the files of the named issues.

    :raises InputError: if none is named, a file is missing, or it cannot be used.
    """
    if not names:
        raise InputError("params.yaml: topics.issues is empty. Name the files of prompts/topics/ that are to be used.")
    return {name: parse(Issue, read_yaml(folder / f"{name}.yaml"), str(folder / f"{name}.yaml")) for name in names}
