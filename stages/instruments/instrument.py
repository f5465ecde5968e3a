"""Instruments ready to be put to a model: statements with their scoring key, the options to answer with, and the wordings to ask in.

A questionnaire of our own form holds all of that in one YAML file. Of an instrument whose statements are not free to ship, such as the Political Compass,
there is only the key (:mod:`stages.instruments.keys`); the user's copy of its statements, one a line, is a text file named after the key, such as
``data/external/political_compass.txt``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.params import parse, read_yaml
from stages.instruments import keys
from stages.instruments.keys import FOLDER, Key, Statement
from stages.instruments.questionnaire import Questionnaire, Wording, Wordings

WORDINGS = FOLDER / "wordings.yaml"


@dataclass(frozen=True)
class Instrument:
    """What can be asked and scored."""

    key: Key
    items: tuple[Statement, ...]
    wordings: tuple[Wording, ...]
    opposites: NDArray[np.int64]
    "[pairs, 2], rows of items that state a position and its opposite; none where an instrument has no such pairs"

    @property
    def options(self) -> tuple[str, ...]:
        """The answers as they are listed, from strongly disagree to strongly agree."""
        return self.key.options

    @property
    def axes(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.key.axes)

    @property
    def _weights(self) -> str:
        return next(iter(self.key.sets))

    def points(self, axis: str) -> NDArray[np.float64]:
        """What each answer to each item adds to an axis, by the key's first set of weights, [items, k]."""
        return self.key.points(self._weights, axis)

    def keyed(self, chances: NDArray[np.float64], axis: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """What each answer says of an axis' score, by the key's first set of weights: see :meth:`stages.instruments.keys.Key.keyed`."""
        return self.key.keyed(chances, self._weights, axis)

    def bounds(self, axis: str) -> tuple[float, float]:
        """The least and the most that an axis' score can be, by the key's first set of weights."""
        return self.key.bounds(self._weights, axis)


def load(file: Path, wordings: Path = WORDINGS) -> Instrument:
    """Read an instrument: a questionnaire (.yaml), or the statements (.txt) of one that has a key of the same name.

    :raises InputError: if the file cannot be used; a key without statements is refused with what to do.
    """
    common = parse(Wordings, read_yaml(wordings), str(wordings)).wordings
    if file.suffix == ".txt":
        key = keys.load(file.stem)
        return Instrument(key, keys.statements(key, file), common, np.empty((0, 2), dtype=np.int64))
    content = read_yaml(file)
    if isinstance(content, dict) and "sets" in content:
        raise InputError(f"{file}: is a key without statements. Put your copy of them, one a line, into data/external/{file.stem}.txt, and name that file instead.")
    return of(parse(Questionnaire, content, str(file)), common)


def of(questionnaire: Questionnaire, wordings: tuple[Wording, ...] = ()) -> Instrument:
    """A questionnaire with the key that it implies, in its own wordings or else in ``wordings``."""
    items = tuple(Statement(item.id, item.text) for item in questionnaire.items)
    return Instrument(keys.implied(questionnaire), items, questionnaire.wordings or wordings, questionnaire.opposites())
