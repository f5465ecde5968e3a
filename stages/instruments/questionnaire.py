"""Questionnaires of statements: put to a model in several wordings and both orders of the options, and scored on axes.

A model's answer to a statement is the expected value of the four options strongly disagree, disagree, agree, strongly agree at -1, -1/3, 1/3, 1,
read from their probabilities and averaged over both orders, so that a habit of picking the first letter cancels. An axis' score is ten times the
mean over its items of answer x direction: -10..10. Half of each axis' items are keyed either way, so a habit of agreeing cancels too.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from stages.llm.interface import LanguageModel, Message, Prompt
from stages.llm.orders import both_ways, choose_over_orders
from stages.params import Section, parse, read_yaml

ANSWERS = ("Strongly disagree", "Disagree", "Agree", "Strongly agree")
VALUES = np.array([-1.0, -1 / 3, 1 / 3, 1.0])
LETTERS = ("A", "B", "C", "D")
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


class Questionnaire(Section):
    """One instrument file."""

    name: str
    title: str
    description: str
    axes: dict[str, Axis]
    items: tuple[Item, ...]
    wordings: tuple[Wording, ...]

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Questionnaire":
        doubled = [name for name, n in Counter(item.id for item in self.items).items() if n > 1]
        if doubled:
            raise ValueError(f"items of the same id: {', '.join(doubled)}")
        for item in self.items:
            if item.axis not in self.axes:
                raise ValueError(f"item {item.id}: there is no axis '{item.axis}'")
            if item.negates and item.negates not in {other.id for other in self.items}:
                raise ValueError(f"item {item.id} negates '{item.negates}', which is no item")
        return self

    def items_of(self, axis: str) -> NDArray[np.int64]:
        """Indices of an axis' items."""
        return np.array([i for i, item in enumerate(self.items) if item.axis == axis])

    def directions(self) -> NDArray[np.int64]:
        """+1 or -1 for each item, [items]."""
        return np.array([item.direction for item in self.items])


class Answers(pydantic.BaseModel):
    """A model's answers to all items in several wordings."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True, frozen=True)

    values: NDArray[np.float64]
    "[items, wordings], -1..1: strongly disagree to strongly agree"
    mass: NDArray[np.float64]
    "[items, wordings], 0..1: probability that the model gave any of the options"


def load(path: Path) -> Questionnaire:
    """Read and check an instrument file."""
    return parse(Questionnaire, read_yaml(path), str(path))


def ask(model: LanguageModel, questionnaire: Questionnaire, wordings: Sequence[Wording]) -> Answers:
    """Put every item to ``model`` in each of ``wordings`` and both orders of the options."""
    values, masses = [], []
    for wording in wordings:

        def prompts(labels: Sequence[str], wording: Wording = wording) -> list[Prompt]:
            options = "\n".join(f"{letter}) {label}" for letter, label in zip(LETTERS, labels, strict=True))
            return [(Message("user", Template(wording.text).substitute(statement=item.text, options=options)),) for item in questionnaire.items]

        probabilities, mass = choose_over_orders(model, prompts, ANSWERS, both_ways(len(ANSWERS)), LETTERS)
        values.append(probabilities @ VALUES)
        masses.append(mass)
    return Answers(values=np.stack(values, axis=1), mass=np.stack(masses, axis=1))


def keyed(answers: NDArray[np.float64], questionnaire: Questionnaire, axis: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """An axis' answers [items of the axis, wordings] turned so that high is the axis' high end and scaled to -10..10, and their directions.

    The mean is the axis' score; the directions are the strata of its bootstrap.
    """
    rows = questionnaire.items_of(axis)
    directions = questionnaire.directions()[rows]
    return SCALE * answers[rows] * directions[:, None], directions
