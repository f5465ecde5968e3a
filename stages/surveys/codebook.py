"""Codebooks: what a survey's variables mean, one YAML file a survey in ``prompts/surveys/``.

A survey is asked again and again: each time is an *edition* with its own prefix of variable names, its own weight and, where an item says so, its
own items. Questions, labels and sentences are in our own words. Codes map to labels in the order of the scale; several codes may share a label,
which joins them. A stage reads one edition through :func:`load`.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Annotated

import pydantic

from stages.core.errors import InputError
from stages.core.params import Section, parse, read_yaml
from stages.surveys.variables import NUMBER, Banded, Code, Coded, Scale

TAKEN = frozenset({"id", "weight", "status", "respondent", "item", "wording", "persona", "question", "options", "order", "answer", "split", "synthetic"})
"Columns that our tables have anyway."
PLACEHOLDERS = {"I", "am", "My", "my", "value", "number"}
"What a sentence about a respondent may leave to the persona's wording, and to the respondent."


class Demographic(Section):
    """What is known of a respondent."""

    variable: str
    title: str
    "as a form would head it"
    sentence: str
    "as a person would say it: $value, or $number for a number; $I, $am, $My, $my are left to the persona's wording"
    values: Coded | Banded
    phrases: dict[str, str] = pydantic.Field(default_factory=dict)
    "how a sentence says a label, where the bare label does not fit"

    @pydantic.model_validator(mode="after")
    def _can_be_said(self) -> "Demographic":
        unknown = set(Template(self.sentence).get_identifiers()) - PLACEHOLDERS
        if unknown or not Template(self.sentence).is_valid():
            raise ValueError(f"sentence: only ${', $'.join(sorted(PLACEHOLDERS))} can be filled in")
        if "number" in Template(self.sentence).get_identifiers() and isinstance(self.values, Coded):
            raise ValueError("sentence: $number needs bands")
        strangers = set(self.phrases) - set(self.values.labels)
        if strangers:
            raise ValueError(f"phrases: {', '.join(sorted(strangers))} is none of the labels")
        return self


class Item(Section):
    """A question of the survey."""

    variable: str
    topic: str
    question: str
    scale: str
    "name of the options under `scales`"
    held_out: bool = False
    "never trained on unless params.yaml says otherwise"
    editions: tuple[str, ...] = ()
    "the editions that ask it; none named: all"


class Edition(Section):
    """One time that the survey was asked."""

    prefix: str
    "begins the name of every variable but the respondent's"
    weight: str | None
    "variable of the survey weight; null: the file has none, and everybody counts alike"


class Missing(Section):
    """Codes that are no answer, anywhere in the survey; empty cells never are."""

    negative: bool
    "every code below zero"
    codes: tuple[Code, ...] = ()


class Codebook(Section):
    """A codebook file."""

    name: Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z][a-z0-9]*$")]
    title: str
    source: str
    "where the data come from, and on which terms"
    respondent: str
    "variable that identifies a respondent"
    missing: Missing
    leaks: dict[str, str] = pydantic.Field(default_factory=dict)
    "variables made from answers, and how: they must not be used"
    editions: dict[str, Edition] = pydantic.Field(min_length=1)
    demographics: dict[str, Demographic] = pydantic.Field(min_length=1)
    scales: dict[str, Scale]
    items: dict[str, Item] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _agrees_with_itself(self) -> "Codebook":
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        columns = Counter([*self.demographics, *(f"{name}_number" for name in self.demographics), *self.items])
        for name, times in columns.items():
            if times > 1 or name in TAKEN or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                yield f"{name}: names are lower-case, differ, and are none of {', '.join(sorted(TAKEN))}"
        for name, item in self.items.items():
            if item.scale not in self.scales:
                yield f"items.{name}.scale: there is no scale '{item.scale}', only {', '.join(self.scales)}"
            for edition in set(item.editions) - set(self.editions):
                yield f"items.{name}.editions: there is no edition '{edition}', only {', '.join(self.editions)}"
        yield from self._used_twice()
        for place, coded in self._coded():
            both = [key for key in coded.options if self.is_missing(key)]
            if both:
                yield f"{place}.options: code {', '.join(both)} counts as missing everywhere in this survey"

    def _used_twice(self) -> Iterator[str]:
        uses = [(f"demographics.{name}", demographic.variable) for name, demographic in self.demographics.items()]
        uses += [(f"items.{name}", item.variable) for name, item in self.items.items()]
        answers = {item.variable for item in self.items.values()}
        for place, variable in uses:
            if variable in self.leaks:
                yield f"{place}.variable: {variable} leaks answers ({self.leaks[variable]}); use another variable"
            elif place.startswith("demographics") and variable in answers:
                yield f"{place}.variable: {variable} is an item's answer; use another variable"

    def _coded(self) -> Iterator[tuple[str, Coded]]:
        yield from ((f"scales.{name}", scale) for name, scale in self.scales.items())
        yield from ((f"demographics.{name}.values", known.values) for name, known in self.demographics.items() if isinstance(known.values, Coded))

    def is_missing(self, cell: str | None) -> bool:
        """Whether a code (as :func:`stages.surveys.variables.code` writes it) is no answer anywhere in the survey."""
        if cell is None or cell in self.missing.codes:
            return True
        return self.missing.negative and NUMBER.fullmatch(cell) is not None and float(cell) < 0


@dataclass(frozen=True)
class Question:
    """An item of one edition."""

    name: str
    variable: str
    "as the file calls it"
    topic: str
    question: str
    scale: Scale
    held_out: bool


@dataclass(frozen=True)
class Survey:
    """One edition of a survey."""

    name: str
    "survey and edition"
    codebook: Codebook
    respondent: str
    weight: str | None
    demographics: Mapping[str, Demographic]
    "with the variables as the file calls them"
    items: Mapping[str, Question]

    @property
    def variables(self) -> tuple[str, ...]:
        """Everything that is read from the file."""
        known = [demographic.variable for demographic in self.demographics.values()]
        weight = [] if self.weight is None else [self.weight]
        return tuple(dict.fromkeys([self.respondent, *weight, *known, *(item.variable for item in self.items.values())]))

    @property
    def numbers(self) -> tuple[str, ...]:
        """The demographics that are numbers."""
        return tuple(name for name, known in self.demographics.items() if isinstance(known.values, Banded))

    def numeric(self, name: str, number: float) -> str | None:
        """The band of ``number`` in the demographic ``name``."""
        values = self.demographics[name].values
        assert isinstance(values, Banded)
        return None if math.isnan(number) else values.band(number)


def load(path: Path, edition: str) -> Survey:
    """Read one edition from a codebook file.

    :raises InputError: naming everything in the file that is wrong at once, or the editions that there are.
    """
    book = parse(Codebook, read_yaml(path), str(path))
    if edition not in book.editions:
        raise InputError(f"{path}: there is no edition '{edition}'. Set survey.edition to one of: {', '.join(book.editions)}.")
    chosen = book.editions[edition]
    items = {
        name: Question(name, chosen.prefix + item.variable, item.topic, item.question, book.scales[item.scale], item.held_out)
        for name, item in book.items.items()
        if not item.editions or edition in item.editions
    }
    if not items:
        raise InputError(f"{path}: no item is asked in the edition '{edition}'. Name it under `editions` of some items.")
    known = {name: demographic.model_copy(update={"variable": chosen.prefix + demographic.variable}) for name, demographic in book.demographics.items()}
    weight = None if chosen.weight is None else chosen.prefix + chosen.weight
    return Survey(f"{book.name}-{edition}", book, book.respondent, weight, known, items)
