"""Scoring keys: what each answer to each statement of an instrument adds to its axes.

A key is figures only; whoever may use an instrument's statements puts them, one a line, into a file of their own (:func:`statements`). Key files
lie beside the questionnaires in ``prompts/instruments/``, and a questionnaire of our own form is scored through the key that it implies.

    score of an axis = offset + factor x sum of points / divisor
"""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.params import Section, parse, read_yaml
from stages.instruments.questionnaire import ANSWERS, SCALE, Axis, Questionnaire, spaced

FOLDER = Path("prompts/instruments")
FOUR_ANSWERS = ("SD", "D", "A", "SA")
"strongly disagree, disagree, agree, strongly agree: the answers 0 to 3 of every instrument"
FIVE_ANSWERS = ("SD", "D", "N", "A", "SA")
"with a neutral answer between them"


class Scale(Section):
    """How an axis' sum of points becomes its score."""

    offset: float
    factor: float = 1.0
    divisor: float | Literal["answered"]
    "answered: the number of answered statements of the axis, so that a skipped one is left out of a mean"


class Entry(Section):
    """One statement: its points for each set of weights and axis, as one figure an answer or as one that the answers' multipliers multiply."""

    id: str
    points: dict[str, dict[str, float | tuple[float, ...]]]


class Key(Section):
    """One key file."""

    name: str
    title: str
    source: str
    answers: tuple[str, ...]
    "from disagreement to agreement"
    options: tuple[str, ...] = ANSWERS
    "the same as they are put to a model"
    multipliers: tuple[float, ...] = ()
    digits: int | None = None
    "decimals of a score; all if not given"
    axes: dict[str, Axis]
    sets: dict[str, dict[str, Scale]]
    "published sets of weights; the first is the one that counts"
    items: tuple[Entry, ...]

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Key":
        if not self.sets:
            raise ValueError("needs at least one set of weights under `sets`")
        missing = [answer for answer in FOUR_ANSWERS if answer not in self.answers]
        if missing:
            raise ValueError(f"answers: {', '.join(missing)} is missing")
        if len(self.options) != len(self.answers):
            raise ValueError(f"options: there are {len(self.options)}, and {len(self.answers)} answers")
        for name, scales in self.sets.items():
            if set(scales) != set(self.axes):
                raise ValueError(f"sets.{name}: needs a scale for each of {', '.join(self.axes)}")
        for item in self.items:
            for name, points in item.points.items():
                if name not in self.sets or not set(points) <= set(self.axes):
                    raise ValueError(f"item {item.id}: there is no set '{name}', or no such axis among {', '.join(points)}")
                for figures in points.values():
                    if len(figures if isinstance(figures, tuple) else self.multipliers) != len(self.answers):
                        raise ValueError(f"item {item.id}: needs {len(self.answers)} figures, one an answer, or one figure and as many `multipliers`")
        return self

    def points(self, weights: str, axis: str) -> NDArray[np.float64]:
        """Points of each answer in one set of weights, [items, answers]; zero for items of other axes."""
        return self._tables[weights, axis]

    @cached_property
    def _tables(self) -> dict[tuple[str, str], NDArray[np.float64]]:
        tables = {(weights, axis): np.zeros((len(self.items), len(self.answers))) for weights in self.sets for axis in self.axes}
        for i, item in enumerate(self.items):
            for weights, points in item.points.items():
                for axis, figures in points.items():
                    tables[weights, axis][i] = figures if isinstance(figures, tuple) else np.multiply(figures, self.multipliers)
        return tables

    def scores(self, chances: NDArray[np.float64], weights: str) -> dict[str, float]:
        """Each axis' score of a sheet.

        ``chances`` [items, answers] hold 1 at the answer given and 0 elsewhere, or a model's probabilities; a row of zeros is a skipped item. An axis
        that averages over what was answered has no score if nothing was.
        """
        found = {}
        for axis, scale in self.sets[weights].items():
            points = self.points(weights, axis)
            divisor = float(chances[points.any(axis=1)].any(axis=1).sum()) if scale.divisor == "answered" else scale.divisor
            if divisor:
                score = scale.offset + scale.factor * float((points * chances).sum()) / divisor
                found[axis] = (score if self.digits is None else round(score, self.digits)) + 0.0  # + 0.0: no negative zero
        return found

    def keyed(self, chances: NDArray[np.float64], weights: str, axis: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """What each answer says of an axis' score, [items of the axis, wordings], and the items' directions.

        The mean is the axis' score (not rounded), and the directions are the strata of its bootstrap: half of the items of our own compass are keyed either
        way, and each resample keeps that balance, so that a habit of agreeing cancels. ``chances`` [items, wordings, answers]; an answer that is missing (NaN)
        is missing among the values, and counts as the mean of the others.
        """
        rows, points = self._said(weights, axis)
        values = self.sets[weights][axis].offset + np.einsum("ia,iwa->iw", points, chances[rows])
        return values, np.sign(points[:, -1] - points[:, 0]).astype(np.int64)

    def bounds(self, weights: str, axis: str) -> tuple[float, float]:
        """The least and the most that the mean of :meth:`keyed` can be."""
        _, points = self._said(weights, axis)
        offset = self.sets[weights][axis].offset
        return offset + float(points.min(axis=1).mean()), offset + float(points.max(axis=1).mean())

    def _said(self, weights: str, axis: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Which items bear on an axis, and what each answer to them says of its score, beside the offset, [items of the axis, answers]."""
        points, scale = self.points(weights, axis), self.sets[weights][axis]
        rows = np.flatnonzero(points.any(axis=1))
        return rows, points[rows] * scale.factor * (1.0 if scale.divisor == "answered" else len(rows) / scale.divisor)


@dataclass(frozen=True)
class Statement:
    """One statement of an instrument that has a key of its own."""

    id: str
    text: str


def implied(questionnaire: Questionnaire) -> Key:
    """The key of a questionnaire of our own form: ten times the mean, over the answered items of an axis, of answer x direction."""
    entries = [Entry(id=item.id, points={"own": {item.axis: float(item.direction)}}) for item in questionnaire.items]
    return Key(
        name=questionnaire.name,
        title=questionnaire.title,
        source=questionnaire.description,
        answers=FOUR_ANSWERS if len(questionnaire.options) == len(FOUR_ANSWERS) else FIVE_ANSWERS,
        options=questionnaire.options,
        multipliers=tuple(spaced(len(questionnaire.options)).tolist()),
        axes=questionnaire.axes,
        sets={"own": {axis: Scale(offset=0.0, factor=SCALE, divisor="answered") for axis in questionnaire.axes}},
        items=tuple(entries),
    )


def load(instrument: str, folder: Path = FOLDER) -> Key:
    """The key of an instrument, by its name in ``folder`` or by the path of its file.

    :raises InputError: if there is no such instrument (naming those that there are), or its file cannot be used.
    """
    named = Path(instrument)
    file = named if named.suffix in {".yaml", ".yml"} else folder / f"{instrument.lower().replace('-', '_')}.yaml"
    if not file.is_file() or not _has_items(file):
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml") if _has_items(path))) or f"none in {folder.resolve()}"
        raise InputError(f"there is no instrument '{instrument}'. There are: {known}. Name one of them, or the YAML file of a questionnaire or a key.")
    content = read_yaml(file)
    return parse(Key, content, str(file)) if "sets" in content else implied(parse(Questionnaire, content, str(file)))


def statements(key: Key, file: Path) -> tuple[Statement, ...]:
    """The user's own copy of an instrument's statements: UTF-8, one a line, in the order of the key; blank lines are ignored.

    :raises InputError: if the file is missing, is no text, or has another number of statements.
    """
    try:
        texts = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise InputError(f"{file}: there is no such file. Put the {len(key.items)} statements of {key.title} there, one a line, in the instrument's order.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 text: {error}. Save it as UTF-8.") from error
    if len(texts) != len(key.items):
        raise InputError(f"{file}: has {len(texts)} statements, and {key.title} has {len(key.items)}. Put one a line, in the instrument's order.")
    return tuple(Statement(item.id, text) for item, text in zip(key.items, texts, strict=True))


@cache
def _has_items(file: Path) -> bool:
    content = read_yaml(file)
    return isinstance(content, dict) and "items" in content
