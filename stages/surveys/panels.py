"""Interviews as training samples: panels of respondents who were asked one item, each with the distribution to learn."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.statistics.groups import Array
from stages.surveys.interviews import Row, answered, distribution, on_scale, scale


@dataclass(frozen=True)
class Sample:
    """One respondent asked one item."""

    tokens: tuple[int, ...]
    "of the chat up to the answer"
    target: tuple[float, ...]
    "[k], in the order of the scale"
    weight: float
    group: int
    "whose answers are compared with other groups', by number; -1: in none"
    hidden: int
    "label of the attribute that is to stay hidden, by number; -1: not known"


@dataclass(frozen=True)
class Panel:
    """Respondents who are compared with each other, and were shown the options in the same order."""

    item: str
    options: tuple[tuple[int, ...], ...]
    "[k], the tokens of each option, in the order of the scale"
    samples: tuple[Sample, ...]
    real: Array
    "[g, k]: how each group really answers"


def answers(row: Row) -> tuple[float, ...]:
    """The one answer that a respondent gave, as a distribution [k]."""
    place = on_scale(row)
    return tuple(float(i == place) for i in range(len(row["order"])))


class GroupAnswers:
    """How groups of respondents really answer each item, small groups drawn towards everybody."""

    def __init__(self, rows: Sequence[Row], by: Sequence[str], shrinkage: float) -> None:
        """Groups share all attributes of ``by`` in ``rows``, of which synthetic ones do not count.

        With counts c_g of a group's weighted answers and the distribution p of all, a group answers as (c_g + s p) / (Σ c_g + s), where s is
        ``shrinkage``: the mean of a Dirichlet posterior around p.
        """
        self.by, self.shrinkage = by, shrinkage
        by_item: dict[str, list[Row]] = {}
        for row in answered(row for row in rows if not row["synthetic"]):
            by_item.setdefault(row["item"], []).append(row)
        self._all: dict[str, Array] = {}
        self._groups: dict[tuple[str, tuple[str | None, ...]], Array] = {}
        for item, found in by_item.items():
            k = len(scale(found[0]))
            total = distribution(found, k)
            self._all[item] = total / total.sum()
            members: dict[tuple[str | None, ...], list[Row]] = {}
            for row in found:
                members.setdefault(self._key(row), []).append(row)
            self._groups |= {(item, key): distribution(some, k) for key, some in members.items()}

    def _key(self, row: Row) -> tuple[str | None, ...]:
        return tuple(row[name] for name in self.by)

    def of(self, row: Row) -> tuple[float, ...]:
        """The answers [k] of the group of ``row`` to its item."""
        return self.labelled(row["item"], self._key(row))

    def labelled(self, item: str, labels: tuple[str | None, ...]) -> tuple[float, ...]:
        """The answers [k] of the group with these ``labels`` to ``item``; everybody's where nobody has them."""
        everybody = self._all[item]
        counts = self._groups.get((item, labels), np.zeros_like(everybody))
        found = (counts + self.shrinkage * everybody) / (counts.sum() + self.shrinkage) if counts.sum() + self.shrinkage else everybody
        return tuple(float(share) for share in found)


def labels_of(rows: Sequence[Row], attribute: str) -> dict[str, int]:
    """The labels of ``attribute`` in ``rows`` and their numbers."""
    return {label: i for i, label in enumerate(sorted({row[attribute] for row in rows if row[attribute] is not None}))}


def panels(
    samples: Mapping[tuple[str, tuple[int, ...]], Sequence[Sample]], options: Mapping[str, tuple[tuple[int, ...], ...]], real: Mapping[str, Array], size: int, seed: int
) -> list[Panel]:
    """The ``samples`` of each item and order of its options, shuffled, in panels of ``size``.

    What is left over is used only where there are fewer than that. Prompts of a panel begin alike, so that their beginning is evaluated once.
    """
    found = []
    for (item, order), given in samples.items():
        shuffled = list(given)
        random.Random(f"panels {seed} {item} {order}").shuffle(shuffled)
        parts = [tuple(shuffled[first : first + size]) for first in range(0, len(shuffled), size)]
        found += [Panel(item, options[item], part, real[item]) for part in parts if len(part) == size or len(parts) == 1]
    return found
