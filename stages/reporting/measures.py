"""Figures out of metric files, flat, each with its interval where it has one."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["beyond", "within", "no interval", "new", "gone", "same"]


@dataclass(frozen=True)
class Measure:
    """One figure."""

    value: float
    low: float | None = None
    high: float | None = None
    "ends of its interval; nothing if it has none"

    def __str__(self) -> str:
        if self.low is None or self.high is None or self.low == self.high:
            return f"{self.value:.4g}"
        decimals = max(0, 1 - math.floor(math.log10(self.high - self.low)))  # two digits of the interval's width: the rest is noise
        return f"{self.value:z.{decimals}f} ({self.low:z.{decimals}f} to {self.high:z.{decimals}f})"

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies in the interval."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


def flat(figures: object, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Measure]]:
    """Every figure of a parsed metric file with the keys that lead to it, in the order of the file; texts are left out."""
    if isinstance(figures, Mapping):
        if is_measure(figures):
            yield place, Measure(*(float(figures[end]) for end in ("value", "low", "high")))
        else:
            for key, inner in figures.items():
                yield from flat(inner, (*place, str(key)))
    elif isinstance(figures, int | float) and not isinstance(figures, bool):
        yield place, Measure(float(figures))


def is_measure(figures: object) -> bool:
    """Whether this is one figure with its interval."""
    return isinstance(figures, Mapping) and {"value", "low", "high"} <= figures.keys() and all(isinstance(figures[end], int | float) for end in ("value", "low", "high"))


def read(text: str) -> dict[tuple[str, ...], Measure]:
    """The figures of a metric file's text; none if it is empty."""
    found: Any = json.loads(text) if text.strip() else {}
    return dict(flat(found))


def verdict(before: Measure | None, after: Measure | None) -> Verdict:
    """What to make of a change.

    ``within``: one of the two values lies in the interval of the other, so chance alone explains the change well enough; ``beyond``: neither does.
    """
    if before is None or after is None:
        return "new" if before is None else "gone"
    if before == after:
        return "same"
    if before.low is None or after.low is None:
        return "no interval"
    return "within" if before.holds(after.value) or after.holds(before.value) else "beyond"
