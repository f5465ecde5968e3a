"""Questionnaires of statements, and how they are put to a model: in several wordings and both orders of the options.

A model's answer to a statement is the expected value of its options, evenly spaced from -1 (strongly disagree) to 1 (strongly agree), read from their
probabilities and averaged over both orders, so that a habit of picking the first letter cancels. How answers become scores is the matter of
:mod:`stages.instruments.keys`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Literal, Protocol

import numpy as np
import pydantic
from numpy.typing import NDArray

from stages.core.params import Section, parse, read_yaml
from stages.instruments.ids import Differing
from stages.llm.interface import LanguageModel, Message, Prompt
from stages.llm.orders import both_ways, choose_in_orders

ANSWERS = ("Strongly disagree", "Disagree", "Agree", "Strongly agree")
LETTERS = ("A", "B", "C", "D", "E")
SCALE = 10.0


class Item(Section):
    """One statement."""

    id: str
    text: str
    axis: str
    direction: Literal[-1, 1]
    "1: agreement raises the axis' score"
    topic: str
    taps: str
    negates: str | None = None
    "the item whose opposite this one states"


class Axis(Section):
    """What an axis' ends mean."""

    positive: str
    low: str
    high: str


class Wording(Section):
    """One way to ask, with ``$statement`` and ``$options``."""

    id: str
    text: str
    answer: Literal["letter", "words"] = "letter"
    """letter: options are listed as A), B), …, and the answer is a letter; words: the answer is an option itself. Small models do not tie letters to what they
    stand for (Robinson et al. 2023, arXiv 2210.12353): they pick a letter by its place."""
    scale: tuple[str, ...] = ()
    "what this wording calls the five answers from strongly disagree to strongly agree; the middle one is for instruments that have it. Empty: as they call them"

    @pydantic.field_validator("scale")
    @classmethod
    def _five_or_none(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and len(value) != len(LETTERS):
            raise ValueError(f"needs {len(LETTERS)} answers, a neutral one in the middle, and not {len(value)}")
        return value

    def options(self, own: tuple[str, ...]) -> tuple[str, ...]:
        """What the answers of an instrument that calls them its ``own`` are called here."""
        if not self.scale:
            return own
        return self.scale if len(own) == len(self.scale) else (*self.scale[:2], *self.scale[3:])


class Wordings(Section):
    """A file of wordings."""

    wordings: tuple[Wording, ...]


class Questionnaire(Section):
    """One instrument file."""

    name: str
    title: str
    description: str
    axes: dict[str, Axis]
    options: tuple[str, ...] = pydantic.Field(default=ANSWERS, min_length=4, max_length=5)
    "four answers from strongly disagree to strongly agree, or five with a neutral one in the middle"
    items: Differing[tuple[Item, ...]]
    wordings: tuple[Wording, ...] = ()
    "of its own; without any, it is asked in those of wordings.yaml"

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Questionnaire":
        for item in self.items:
            if item.axis not in self.axes:
                raise ValueError(f"item {item.id}: there is no axis '{item.axis}'")
            if item.negates and item.negates not in {other.id for other in self.items}:
                raise ValueError(f"item {item.id} negates '{item.negates}', which is no item")
        return self

    def opposites(self) -> NDArray[np.int64]:
        """Rows of the statements that state a position and its opposite, [pairs, 2]."""
        place = {item.id: i for i, item in enumerate(self.items)}
        return np.array([(place[item.negates], i) for i, item in enumerate(self.items) if item.negates], dtype=np.int64).reshape(-1, 2)


@dataclass(frozen=True)
class Answers:
    """A model's answers to all items in several wordings."""

    chances: NDArray[np.float64]
    "[items, wordings, 2, k], probability of each answer from strongly disagree to strongly agree, with the options in that order and reversed"
    mass: NDArray[np.float64]
    "[items, wordings], 0..1: probability that the model gave any of the options"

    @property
    def mean_chances(self) -> NDArray[np.float64]:
        """[items, wordings, k]: averaged over both orders."""
        found: NDArray[np.float64] = self.chances.mean(axis=2)
        return found

    @property
    def values(self) -> NDArray[np.float64]:
        """[items, wordings], -1..1: strongly disagree to strongly agree, averaged over both orders."""
        found: NDArray[np.float64] = self.mean_chances @ spaced(self.chances.shape[-1])
        return found


class HasText(Protocol):
    """A statement."""

    @property
    def text(self) -> str:
        """As it is put to a model."""
        ...


class Asked(Protocol):
    """Whatever has statements to put and options to answer them with."""

    @property
    def items(self) -> Sequence[HasText]:
        """The statements in their order."""
        ...

    @property
    def options(self) -> tuple[str, ...]:
        """From strongly disagree to strongly agree."""
        ...


def load(path: Path) -> Questionnaire:
    """Read and check an instrument file."""
    return parse(Questionnaire, read_yaml(path), str(path))


def spaced(k: int) -> NDArray[np.float64]:
    """What ``k`` options stand for, from -1 (strongly disagree) to 1 (strongly agree), [k]."""
    return np.linspace(-1.0, 1.0, k)


def ask(model: LanguageModel, asked: Asked, wordings: Sequence[Wording]) -> Answers:
    """Put every statement to ``model`` in each of ``wordings`` and both orders of the options.

    The statements of one wording and order are asked together, so that what their prompts begin with is evaluated once.
    """
    chances, masses = [], []
    for wording in wordings:
        named = wording.options(asked.options)

        def prompts(labels: Sequence[str], wording: Wording = wording) -> list[Prompt]:
            lines = [f"{letter}) {label}" for letter, label in zip(LETTERS, labels, strict=False)] if wording.answer == "letter" else labels
            options = "\n".join(lines)
            return [(Message("user", Template(wording.text).substitute(statement=item.text, options=options)),) for item in asked.items]

        k = len(asked.options)
        by_order, mass = choose_in_orders(model, prompts, named, both_ways(k), LETTERS[:k] if wording.answer == "letter" else ())
        chances.append(by_order)
        masses.append(mass.mean(axis=1))
    return Answers(np.stack(chances, axis=1), np.stack(masses, axis=1))
