"""Prompts are data: wording and answer parsing in ``prompts/<task>.yaml``.

A prompt file holds a ``system`` text and a ``user`` text with ``$placeholders``, worked ``examples``, and, for each leaning, ``wording`` (values
for placeholders). ``answer`` is a regular expression whose group ``answer`` is what is read from a completion.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

import pydantic

from stages.errors import InputError
from stages.llm.interface import Message, Prompt
from stages.params import Section, parse, read_yaml


class Example(Section):
    """One worked example: values for the placeholders of ``user``, and the answer to them."""

    given: dict[str, str]
    answer: str


class Task(Section):
    """One prompt file."""

    system: str
    user: str
    answer: str = r"(?s)(?P<answer>.*\S)"
    wording: dict[str, dict[str, str]] = {}
    examples: dict[str, tuple[Example, ...]] = {}
    neutral: tuple[str, ...] = ()
    "content-free inputs for contextual calibration"

    @pydantic.field_validator("answer")
    @classmethod
    def _has_group(cls, value: str) -> str:
        if "answer" not in re.compile(value).groupindex:
            raise ValueError("the pattern needs a group (?P<answer>…)")
        return value

    def words(self, leaning: str) -> dict[str, str]:
        """The wording of ``leaning``.

        :raises InputError: if the prompt file has none for it.
        """
        if self.wording and leaning not in self.wording:
            raise InputError(f"the prompt has no wording for '{leaning}', only for {', '.join(self.wording)}. Add it under `wording:`.")
        return self.wording.get(leaning, {})

    def render(self, leaning: str, given: Mapping[str, str]) -> Prompt:
        """Fill the placeholders for ``leaning``: system text, examples as earlier turns, then the question about ``given``."""
        words = self.words(leaning)
        turns = [Message("system", Template(self.system).substitute(words).strip())] if self.system else []
        for example in self.examples.get(leaning, ()):
            turns.append(Message("user", Template(self.user).substitute(words, **example.given).strip()))
            turns.append(Message("assistant", example.answer.strip()))
        turns.append(Message("user", Template(self.user).substitute(words, **given).strip()))
        return tuple(turns)

    def read(self, text: str) -> str | None:
        """What the pattern finds in a completion, stripped of blanks; nothing if it does not fit."""
        match = re.search(self.answer, text)
        return match["answer"].strip() if match and match["answer"].strip() else None


def load(path: Path) -> Task:
    """Read and check a prompt file."""
    return parse(Task, read_yaml(path), str(path))
