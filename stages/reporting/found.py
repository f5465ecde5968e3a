"""What a run left to show: metric files and curves, whichever there are."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.reporting import headline
from stages.reporting.measures import Measure

Line = Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """Everything that the report shows."""

    metrics: Mapping[str, Mapping[str, Any]]
    "parsed metric files by their names without .json"
    curves: Mapping[str, Sequence[Line]]
    "rows of the CSV files over training steps by their names without .csv"
    answers: Sequence[Line] = ()
    "rows of opinion.csv: mean answers of groups, real and simulated"


def read(metrics: Path) -> Found:
    """Read all that is there.

    :raises InputError: if a file is broken.
    """
    figures = {}
    for file in sorted(set(metrics.glob("*.json")) - {metrics / headline.FILE}):
        try:
            figures[file.stem] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{file}: is not valid JSON ({error}). Run the stage that writes it again: `dvc repro -f`.") from error
    tables = {file.stem: _rows(file) for file in sorted((metrics / "plots").glob("*.csv"))}
    return Found(figures, {name: over_steps(rows) for name, rows in tables.items()}, tables.get("opinion", ()))


def _rows(file: Path) -> list[Line]:
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def over_steps(rows: Sequence[Line]) -> Sequence[Line]:
    """The rows of a table, if they are points of adapters' curves; else none."""
    return rows if rows and {"adapter", "step"} <= rows[0].keys() else []


def measured(line: Line, name: str) -> Measure | None:
    """A measure of a row with its interval, from the columns <name>_low and <name>_high, or low and high; nothing where it is blank."""
    if not line.get(name):
        return None
    ends = [line.get(f"{name}_{end}") or line.get(end) or None for end in ("low", "high")]
    return Measure(float(line[name]), *(None if end is None else float(end) for end in ends))


def measure_names(lines: Sequence[Line]) -> list[str]:
    """The columns that hold measures rather than the ends of intervals."""
    return [name for name in lines[0] if name not in ("adapter", "step", "low", "high") and not name.endswith(("_low", "_high")) and _is_number(lines, name)]


def _is_number(lines: Sequence[Line], name: str) -> bool:
    try:
        return bool([float(line[name]) for line in lines if line[name]])
    except ValueError:
        return False


def confusion(metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, list[tuple[str, list[tuple[str, int]]]]]]:
    """(leaning, [(gold, [(score, posts)])]) of the filter, where it was compared with gold."""
    for leaning, figures in metrics.get("filter", {}).items():
        if "confusion" in figures:
            yield leaning, [(gold.removeprefix("gold_"), [(score.removeprefix("score_"), int(n)) for score, n in row.items()]) for gold, row in figures["confusion"].items()]
