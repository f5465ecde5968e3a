"""The files that archives hand out: tab-separated text, CSV, Stata, SPSS, Parquet.

Only the variables of a codebook are kept, each cell as :func:`stages.surveys.variables.code` writes it. Missing values that Stata and SPSS know by
themselves are empty cells.
"""

import csv
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyreadstat

from stages.core.errors import InputError
from stages.surveys.variables import code

Cells = list[str | None]


@dataclass(frozen=True)
class Raw:
    """What was read of a file."""

    path: Path
    columns: dict[str, Cells]
    "variable -> one cell a respondent"
    first_row: int
    "number of the first respondent's row, as users count: after the header of a text file"
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    "variable -> code -> what the file itself calls it, where it does"

    def __len__(self) -> int:
        """How many respondents there are."""
        return len(next(iter(self.columns.values())))

    def place(self, i: int) -> str:
        """Where respondent ``i`` is found."""
        return f"{self.path}: row {self.first_row + i}"


def read(path: Path, variables: Sequence[str]) -> Raw:
    """Read ``variables`` from a ``.tab``, ``.csv``, ``.dta``, ``.sav`` or ``.parquet`` file.

    :raises InputError: if the file is missing, of another kind, broken, empty, or lacks a variable.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Set survey.file to the survey's data.")
    readers: dict[str, Callable[[Path, Sequence[str]], Raw]] = {".tab": _tab, ".tsv": _tab, ".csv": _csv, ".dta": _stata, ".sav": _spss, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: survey data end in {', '.join(readers)}, not in '{path.suffix}'. Export or convert the file.")
    raw = readers[path.suffix.lower()](path, variables)
    if not len(raw):
        raise InputError(f"{path}: has no respondents, only a header. Fetch or export it again.")
    return raw


def _check(path: Path, names: Sequence[str], variables: Sequence[str]) -> None:
    missing = [variable for variable in variables if variable not in names]
    if missing:
        hints = [f"{variable} (perhaps {' or '.join(close)}?)" if (close := difflib.get_close_matches(variable, names, 2)) else variable for variable in missing]
        some = f"{', '.join(names[:20])}{f' and {len(names) - 20} more' if len(names) > 20 else ''}"
        raise InputError(
            f"{path}: the codebook names variables that the file lacks: {', '.join(hints)}. It has: {some}. Is survey.edition the one of this file? If so, correct the codebook."
        )
    twice = [variable for variable in variables if list(names).count(variable) > 1]
    if twice:
        raise InputError(f"{path}: has more than one column {', '.join(twice)}. Rename or remove the wrong one.")


def _tab(path: Path, variables: Sequence[str]) -> Raw:
    return _delimited(path, variables, "\t", csv.QUOTE_NONE)


def _csv(path: Path, variables: Sequence[str]) -> Raw:
    return _delimited(path, variables, ",", csv.QUOTE_MINIMAL)


def _delimited(path: Path, variables: Sequence[str], delimiter: str, quoting: Any) -> Raw:
    # Tab-separated files are read without quoting, because a stray quote in a text would swallow the rows after it; quotes around a cell go.
    quotes = '"' if quoting == csv.QUOTE_NONE else ""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            names = [name.strip(quotes + " ") for name in next(rows, [])]
            _check(path, names, variables)
            places = [names.index(variable) for variable in variables]
            cells: list[list[str]] = [[] for _ in variables]
            for number, row in enumerate((row for row in rows if row), 2):
                if len(row) != len(names):
                    raise InputError(f"{path}: row {number}: has {len(row)} fields, the header {len(names)}. The file is broken off or edited; fetch it again.")
                for column, place in zip(cells, places, strict=True):
                    column.append(row[place])
        except csv.Error as error:
            raise InputError(f"{path}: line {rows.line_num}: {error}. Mend or fetch the file again.") from error
    return Raw(path, {name: _clean([cell.strip(quotes + " ") for cell in column]) for name, column in zip(variables, cells, strict=True)}, 2)


def _stata(path: Path, variables: Sequence[str]) -> Raw:
    return _labelled(path, variables, pyreadstat.read_dta)


def _spss(path: Path, variables: Sequence[str]) -> Raw:
    return _labelled(path, variables, pyreadstat.read_sav)


def _labelled(path: Path, variables: Sequence[str], reader: Any) -> Raw:
    try:
        _, head = reader(str(path), metadataonly=True)
        _check(path, head.column_names, variables)
        frame, _ = reader(str(path), usecols=list(variables))
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, ValueError) as error:
        raise InputError(f"{path}: is no readable {path.suffix} file ({error}). Fetch it again.") from error
    labels = {
        variable: {str(code(value)): str(label) for value, label in head.variable_value_labels[variable].items()}
        for variable in variables
        if variable in head.variable_value_labels
    }
    return Raw(path, _columns(frame, variables), 1, labels)


def _parquet(path: Path, variables: Sequence[str]) -> Raw:
    try:
        _check(path, pq.read_schema(path).names, variables)
        frame = pq.read_table(path, columns=list(variables)).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: is not a readable Parquet file ({error}). Fetch it again.") from error
    return Raw(path, _columns(frame, variables), 1)


def _columns(frame: pd.DataFrame, variables: Sequence[str]) -> dict[str, Cells]:
    return {variable: _clean([None if empty else cell for cell, empty in zip(frame[variable].tolist(), frame[variable].isna(), strict=True)]) for variable in variables}


def _clean(cells: Sequence[object]) -> Cells:
    known = {cell: code(cell) for cell in set(cells)}
    return [known[cell] for cell in cells]
