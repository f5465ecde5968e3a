"""The tables of interviews: what ``interview`` writes, and what tuning and measuring read."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core import tables
from stages.core.errors import InputError
from stages.statistics.groups import Array

INTERVIEW = pa.schema(
    {
        "id": pa.string(),
        "respondent": pa.string(),
        "item": pa.string(),
        "wording": pa.string(),
        "persona": pa.string(),
        "question": pa.string(),
        "options": pa.list_(pa.string()),
        "order": pa.list_(pa.int8()),
        "answer": pa.int8(),
        "weight": pa.float64(),
        "split": pa.string(),
        "synthetic": pa.bool_(),
    }
)
STATED = "stated"  # key of the table's provenance
Row = Mapping[str, Any]


def schema(demographics: Iterable[str]) -> pa.Schema:
    """The columns of a table of interviews with people of whom ``demographics`` are known."""
    return pa.schema([*INTERVIEW, *(pa.field(name, pa.string()) for name in demographics)])


@dataclass(frozen=True)
class Interviews:
    """A table of interviews."""

    path: Path
    rows: list[dict[str, Any]]
    demographics: tuple[str, ...]
    "the columns that describe respondents"
    stated: tuple[str, ...]
    "those that personas tell; the others are known to us alone"

    def require(self, names: Collection[str], key: str) -> None:
        """:raises InputError: if one of ``names``, which the parameter ``key`` gives, is no demographic."""
        strangers = [name for name in names if name not in self.demographics]
        if strangers:
            raise InputError(f"params.yaml: {key}: {self.path} has no '{', '.join(strangers)}', only {', '.join(self.demographics)}.")


def write(path: Path, rows: Sequence[Row], demographics: Iterable[str], unstated: Collection[str]) -> None:
    """Write ``rows`` with a note of which ``demographics`` their personas state."""
    names = tuple(demographics)
    tables.write(path, rows, schema(names), {STATED: " ".join(name for name in names if name not in unstated)})


def read(path: Path) -> Interviews:
    """Read a table.

    :raises InputError: if it is missing, lacks a column, or holds no row.
    """
    known = pq.read_schema(path).names if path.exists() else []
    names = tuple(name for name in known if name not in INTERVIEW.names)
    rows = tables.read(path, schema(names)).to_pylist()
    if not rows:
        raise InputError(f"{path}: holds no interview. Run `dvc repro interview`, or hold out another share of respondents.")
    stated = str(tables.provenance(path).get(STATED, " ".join(names))).split()
    return Interviews(path, rows, names, tuple(stated))


def on_scale(row: Row) -> int:
    """The place of a row's answer on its item's scale, whatever the order in which the options were shown."""
    return int(row["order"][row["answer"]])


def scale(row: Row) -> tuple[str, ...]:
    """The options of a row's item in the order of its scale."""
    return tuple(label for _, label in sorted(zip(row["order"], row["options"], strict=True)))


def answered(rows: Iterable[Row]) -> list[Row]:
    """Each respondent's answer to each item once, however often and in whatever words it was put."""
    return list({(row["respondent"], row["item"]): row for row in rows}.values())


def distribution(rows: Sequence[Row], k: int) -> Array:
    """Weighted answers [k] of ``rows``, all of one scale of ``k`` options, not divided by their sum."""
    found = np.zeros(k)
    for row in rows:
        found[on_scale(row)] += row["weight"]
    return found
