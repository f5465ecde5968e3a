"""Responders whose answers are known beforehand: an instrument is trusted as far as it measures them right.

They answer wherever a language model does (:class:`stages.llm.interface.LanguageModel`) and see nothing but the prompt. :class:`Agrees`,
:class:`TakesFirst` and :class:`Guesses` have no position, so they belong at the centre; :class:`Positioned` has one that is given.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from stages.instruments.questionnaire import ANSWERS, SCALE, Questionnaire, Wording, spaced
from stages.llm.interface import Choice, Completion, Prompt, Sampling

NUMBERS = ("0", "1", "2", "3", "4")
"strongly disagree to strongly agree, where the prompt asks for an integer and a reason"


@dataclass(frozen=True)
class Control(ABC):
    """A responder by rule."""

    mass: float = field(default=1.0, kw_only=True)
    "probability that it gives any of the options; low: a model that talks past the question"
    options: tuple[str, ...] = field(default=ANSWERS, kw_only=True)
    "of the instrument, from strongly disagree to strongly agree"

    @property
    def fingerprint(self) -> str:
        """The rule and its settings."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    @abstractmethod
    def chances(self, prompt: Prompt, options: Sequence[str], repeat: int) -> NDArray[np.float64]:
        """How it distributes its answer over ``options``, [k]."""

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Iterator[tuple[int, Choice]]:
        """Distribute the answer to each prompt over its ``options``."""
        for index, (prompt, own) in enumerate(zip(prompts, options, strict=True)):
            yield index, Choice(tuple(self.chances(prompt, own, 0).tolist()), self.mass, 0)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, repeats: Sequence[int] = ()) -> Iterator[tuple[int, Completion]]:
        """Write the likeliest of the numbers from 0 on, with a reason that says nothing."""
        for index, (prompt, repeat) in enumerate(zip(prompts, repeats or [0] * len(prompts), strict=True)):
            number = int(self.chances(prompt, NUMBERS[: len(self.options)], repeat).argmax())
            yield index, Completion(f"{number}, because that is what I always say.", "stop", 0, 0)


@dataclass(frozen=True)
class Agrees(Control):
    """Takes the option that agrees most, whatever the statement says."""

    def chances(self, prompt: Prompt, options: Sequence[str], repeat: int) -> NDArray[np.float64]:
        """All on the option that agrees most."""
        return np.asarray(answers_meant(prompt, options, self.options) == len(self.options) - 1, dtype=np.float64)


@dataclass(frozen=True)
class TakesFirst(Control):
    """Takes the option that is listed first, whatever it says."""

    def chances(self, prompt: Prompt, options: Sequence[str], repeat: int) -> NDArray[np.float64]:
        """All on the first option."""
        return _all_on(0, len(options))


@dataclass(frozen=True)
class Guesses(Control):
    """Draws an option at random, anew for each prompt and repeat."""

    seed: int

    def chances(self, prompt: Prompt, options: Sequence[str], repeat: int) -> NDArray[np.float64]:
        """All on the option drawn."""
        return _all_on(int(_random(self.seed, prompt[-1].content, repeat).integers(len(options))), len(options))


@dataclass(frozen=True)
class Positioned(Control):
    """Answers a questionnaire from a known position, with the noise of real answers.

    The answer to a statement in one wording is position x direction plus what the statement, the wording and both together happen to add, and a
    habit of agreeing. The statements count as a sample of all that could be asked, so ``position`` is what the mean would be over all of them.
    """

    questionnaire: Questionnaire
    position: Mapping[str, float]
    "on each axis, -10..10; with these deviations within -4..4, as answers beyond full agreement are cut"
    seed: int
    habit: float = 0.1
    "of agreeing, on the answers' scale -1..1; the balance of both directions cancels it"
    between_items: float = 0.2
    "standard deviation of what a statement adds"
    between_wordings: float = 0.05
    "of what a wording adds, for or against agreeing"
    within: float = 0.1
    "of what remains"

    def chances(self, prompt: Prompt, options: Sequence[str], repeat: int) -> NDArray[np.float64]:
        """On the two answers around its own, so that their expected value is its answer."""
        content = prompt[-1].content
        item = next((item for item in self.questionnaire.items if item.text in content), None)
        if item is None:
            raise ValueError(f"the prompt holds no statement of {self.questionnaire.title}: {content}")
        wording = "\n".join(line for line in content.replace(item.text, "").splitlines() if not line.endswith(self.options))
        parts = ((self.between_items, item.id), (self.between_wordings, wording), (self.within, item.id + wording))
        deviation = sum(spread * _normal(self.seed, part, repeat) for spread, part in parts)
        steps = spaced(len(self.options))
        value = np.clip(item.direction * self.position[item.axis] / SCALE + self.habit + deviation, steps[0], steps[-1])
        by_answer = np.clip(1 - np.abs(value - steps) / (steps[1] - steps[0]), 0, 1)
        return np.take(by_answer, answers_meant(prompt, options, self.options))


def without_position(options: tuple[str, ...], seed: int) -> dict[str, Control]:
    """The responders that belong at the centre, by name, for an instrument with these ``options``."""
    return {"agrees": Agrees(options=options), "takes_first": TakesFirst(options=options), "guesses": Guesses(seed, options=options)}


def known(wordings: Sequence[Wording]) -> list[Wording]:
    """``wordings`` with the answers called as the instrument calls them, which is what rules know them by."""
    return [wording.model_copy(update={"scale": ()}) for wording in wordings]


def answers_meant(prompt: Prompt, options: Sequence[str], answers: tuple[str, ...] = ANSWERS) -> NDArray[np.int64]:
    """Which of ``answers`` each option stands for, [k]: what follows it on a line of the prompt, or else the option itself.

    :raises ValueError: if an option is none of them.
    """
    places, line = _reading(answers)
    lines = {option: answer.casefold() for option, answer in line.findall(prompt[-1].content)}
    meant = [places.get(lines.get(option, option.casefold())) for option in options]
    if None in meant:
        raise ValueError(f"the prompt does not say which of {', '.join(answers)} the option '{options[meant.index(None)]}' is: {prompt[-1].content}")
    return np.array(meant, dtype=np.int64)


@lru_cache
def _reading(answers: tuple[str, ...]) -> tuple[dict[str, int], re.Pattern[str]]:
    """The place of each answer by its text and number, and the line of a prompt that lists one: its letter or number, and which answer it is."""
    places = {text.casefold(): i for texts in (answers, NUMBERS[: len(answers)]) for i, text in enumerate(texts)}
    return places, re.compile(rf"(?mi)^[^\w\n]*(\w+)[^\w\n]+({'|'.join(map(re.escape, answers))})[^\w\n]*$")


def _all_on(option: int, options: int) -> NDArray[np.float64]:
    chances = np.zeros(options)
    chances[option] = 1
    return chances


def _random(*parts: object) -> np.random.Generator:
    return np.random.default_rng(list(_digest(parts)))


@lru_cache(maxsize=10_000)
def _normal(*parts: object) -> float:
    """A standard normal number that these parts always give."""
    return NormalDist().inv_cdf((int.from_bytes(_digest(parts)[:6]) + 0.5) / 2**48)


def _digest(parts: tuple[object, ...]) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()
