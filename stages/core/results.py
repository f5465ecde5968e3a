"""Metric files as DVC reads them: finite numbers, sorted keys, six significant digits."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from stages.core.files import replacing

Figures: TypeAlias = Mapping[str, "Figures | float | int | str | bool"]


def write_metrics(path: Path, figures: Figures) -> None:
    """Write nested figures as JSON.

    :raises ValueError: at a number that is not finite, because one NaN makes DVC drop the whole file: leave out what could not be measured.
    """
    text = json.dumps(_rounded(figures, path.name), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_plot(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a curve or table for ``dvc plots`` as CSV."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([six_digits(value) if isinstance(value, float) else value for value in row] for row in rows)


def six_digits(value: float) -> float:
    """``value`` with six significant digits."""
    return float(f"{value:.6g}")


def _rounded(value: object, place: str) -> object:
    if isinstance(value, Mapping):
        return {str(key): _rounded(inner, f"{place}: {key}") for key, inner in value.items()}
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {value}, which no metric file may hold")
        return six_digits(value)
    raise TypeError(f"{place} is a {type(value).__name__}, which no metric file may hold")
