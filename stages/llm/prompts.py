"""Prompts are data: wording and answer parsing in ``prompts/<task>.yaml``.

A prompt file holds a ``system`` and a ``user`` text with ``$placeholders``. Values come from the row that is asked about, from the leaning's
``wording``, and, for ``$examples`` in the system text, from the leaning's ``examples``, each written out by the template ``example``. ``turns`` are
examples too, but put as earlier turns of the chat: values for the placeholders of ``user``, and the ``answer`` to them; one list for every leaning, or
a list for each. ``answer`` is a regular expression whose group ``answer`` is what is read from a completion, and ``compose`` what is made of it;
``options`` are the fixed answers of a choice.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from string import Template

import pydantic

from stages.core.errors import InputError
from stages.core.params import Section, parse, read_yaml
from stages.llm.interface import Message, Prompt


class Task(Section):
    """One prompt file."""

    system: str
    user: str
    answer: str = r"(?s)(?P<answer>.*\S)"
    compose: str = "$answer"
    options: tuple[str, ...] = ()
    wording: dict[str, dict[str, str]] = pydantic.Field(default_factory=dict)
    example: str = ""
    examples: dict[str, tuple[dict[str, str], ...]] = pydantic.Field(default_factory=dict)
    turns: tuple[dict[str, str], ...] | dict[str, tuple[dict[str, str], ...]] = ()
    neutral: tuple[str, ...] = ()
    "content-free inputs for contextual calibration"

    @pydantic.field_validator("answer")
    @classmethod
    def _has_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        if "answer" not in groups:
            raise ValueError("the pattern needs a group (?P<answer>…)")
        return value

    @pydantic.model_validator(mode="after")
    def _turns_have_answers(self) -> "Task":
        for leaning, turns in self._all_turns.items():
            for i, example in enumerate(turns, 1):
                if self.read(example.get("answer", "")) is None:
                    where = f"turns: {leaning}: example {i}" if leaning else f"turns: example {i}"
                    raise ValueError(f"{where}: its `answer` is missing, or the pattern under `answer` does not read it")
        return self

    @pydantic.field_validator("system", "user", "example", "compose")
    @classmethod
    def _is_template(cls, value: str) -> str:
        if not Template(value).is_valid():
            raise ValueError("holds a $ that begins no placeholder; write $$ for a dollar sign")
        return value

    def render(self, leaning: str, given: Mapping[str, str]) -> Prompt:
        """The chat that asks about ``given`` in the wording of ``leaning``.

        :raises InputError: if the file has no wording for that leaning, or a placeholder without a value.
        """
        if self.wording and leaning not in self.wording:
            raise InputError(f"the prompt has no wording for '{leaning}', only for {', '.join(self.wording)}. Add it under `wording:`.")
        words = self.wording.get(leaning, {})
        try:
            examples = "\n\n".join(Template(self.example).substitute(words, **example).strip() for example in self.examples.get(leaning, ()))
            system = Template(self.system).substitute(words, examples=examples).strip()
            turns = [turn for example in self._turns_of(leaning) for turn in (self._question(words, example), Message("assistant", example["answer"]))]
            question = self._question(words, given)
        except KeyError as error:
            raise InputError(f"the prompt has a placeholder ${error.args[0]} that nothing fills. There are: {', '.join([*words, *given])}.") from error
        return (*([Message("system", system)] if system else []), *turns, question)

    def _question(self, words: Mapping[str, str], given: Mapping[str, str]) -> Message:
        return Message("user", Template(self.user).substitute(words, **given).strip())

    @property
    def _all_turns(self) -> dict[str, tuple[dict[str, str], ...]]:
        return self.turns if isinstance(self.turns, dict) else {"": self.turns}

    def _turns_of(self, leaning: str) -> tuple[dict[str, str], ...]:
        found = self._all_turns
        if "" not in found and leaning not in found:
            raise InputError(f"the prompt has no turns for '{leaning}', only for {', '.join(found)}. Add them under `turns:`.")
        return found.get("", ()) or found.get(leaning, ())

    @cached_property
    def example_answers(self) -> frozenset[str | None]:
        """What is read from the answers of ``turns``, of all leanings."""
        return frozenset(self.read(example["answer"]) for turns in self._all_turns.values() for example in turns)

    def read(self, text: str) -> str | None:
        """What the pattern finds in a completion, as ``compose`` words it; nothing if the pattern does not fit."""
        match = re.search(self.answer, text)
        found = (match["answer"] or "").strip() if match else ""
        return Template(self.compose).substitute(answer=found) if found else None


def load(path: Path) -> Task:
    """Read and check a prompt file."""
    return parse(Task, read_yaml(path), str(path))
