"""Score an answer sheet on an instrument: ``python -m stages.instruments.score --instrument NAME --answers FILE.csv`` prints JSON.

The sheet is CSV with a column ``answer``, one row a statement in the instrument's order: 0 to 3 or SD, D, A, SA (strongly disagree, disagree,
agree, strongly agree), in either case, and N (neutral) where an instrument has it; an empty answer is a skipped statement. NAME is political_compass, 8values,
compass, or the path of a questionnaire or key in YAML.

Printed are the axes' scores, how many statements were answered and skipped, and, where several sets of weights were published, the scores by
each under ``sets``. What a skipped statement does is the key's ``source`` to say: it adds nothing to the Political Compass or 8values, and
is left out of the mean of our own compass. An axis that cannot be scored, because nothing of it was answered, is left out.
"""

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core import command
from stages.core.errors import InputError
from stages.core.results import Figures, six_digits
from stages.instruments import keys
from stages.instruments.keys import FOUR_ANSWERS, Key

COLUMN = "answer"


def read_sheet(path: Path, key: Key) -> NDArray[np.float64]:
    """An answer sheet as [items, answers]: 1 at the answer given; a row of zeros where it was skipped.

    :raises InputError: naming the file, the line and what is allowed.
    """
    cells = _cells(path)
    while len(cells) > len(key.items) and not cells[-1][1]:  # blank lines after the last answer
        cells.pop()
    if len(cells) != len(key.items):
        raise InputError(f"{path}: has {len(cells)} rows, and {key.title} has {len(key.items)} statements. Give one row a statement; leave the answer of a skipped one empty.")
    columns = {answer: i for i, answer in enumerate(key.answers)}
    columns |= {form: columns[answer] for i, answer in enumerate(FOUR_ANSWERS) for form in (f"{i}", f"{i}.0")}  # a table with gaps is often saved with 2.0 for 2
    chances = np.zeros((len(key.items), len(key.answers)))
    for row, (line, cell) in zip(chances, cells, strict=True):
        if cell and cell.upper() not in columns:
            raise InputError(f"{path}: row {line}: field {COLUMN}: '{cell}' is none of 0 to 3 or {', '.join(key.answers)}. Correct it, or leave it empty if it was skipped.")
        if cell:
            row[columns[cell.upper()]] = 1
    return chances


def _cells(path: Path) -> list[tuple[int, str]]:
    """The line number and answer of each row; a blank line counts only where ``answer`` is the only column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if row or len(header) == 1]
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file. Give a CSV file with a column {COLUMN}.") from error
    except (UnicodeDecodeError, csv.Error, IsADirectoryError) as error:
        raise InputError(f"{path}: is not readable as CSV: {error}. Save the sheet as CSV in UTF-8.") from error
    if COLUMN not in header:
        raise InputError(f"{path}: column {COLUMN} is missing. The file has: {', '.join(header)}.")
    place = header.index(COLUMN)
    short = [line for line, row in rows if 0 < len(row) <= place]
    if short:
        raise InputError(f"{path}: row {short[0]}: field {COLUMN}: the row ends before it. Write the row out in full.")
    return [(line, row[place].strip() if row else "") for line, row in rows]


def figures(key: Key, chances: NDArray[np.float64]) -> Figures:
    """The scores of a sheet [items, answers], by the first set of weights and, if there are several, by each."""
    by_set = {weights: {axis: six_digits(score) for axis, score in key.scores(chances, weights).items()} for weights in key.sets}
    answered = int(chances.any(axis=1).sum())
    found: Figures = {"instrument": key.name, "answered": answered, "skipped": len(chances) - answered, **next(iter(by_set.values()))}
    return {**found, "sets": by_set} if len(by_set) > 1 else found


def main(*, instrument: str, answers: Path) -> None:
    """Score one sheet."""
    key = keys.load(instrument)
    print(json.dumps(figures(key, read_sheet(answers, key)), indent=2))


if __name__ == "__main__":
    command.run(main)
