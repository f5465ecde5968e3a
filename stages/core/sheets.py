"""CSV sheets that people write by hand, such as gold scores."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.core.errors import InputError


def read(path: Path, columns: Sequence[str], text: Sequence[str]) -> pd.DataFrame:
    """Read a sheet that has at least ``columns``; those of ``text`` stay strings, and an empty cell is an empty string.

    :raises InputError: if the file is missing, is no CSV, or lacks a column.
    """
    try:
        sheet: pd.DataFrame = pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not readable as CSV: {error}") from error
    missing = [name for name in columns if name not in sheet.columns]
    if missing:
        raise InputError(f"{path}: column {', '.join(missing)} is missing. The file has: {', '.join(sheet.columns)}.")
    return sheet
