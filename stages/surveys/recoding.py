"""Codes to labels, and whether a file and its codebook speak of the same codes."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stages.core.errors import InputError
from stages.surveys.codebook import Codebook, Survey
from stages.surveys.raw import Cells, Raw
from stages.surveys.variables import NUMBER, Banded, Coded


@dataclass(frozen=True)
class Recoded:
    """One variable in the words of the codebook."""

    labels: list[str | None]
    "one a respondent; none: no answer"
    numbers: list[float | None]
    "what a band was made of; empty for codes"
    unknown: list[int]
    "respondents whose code the codebook does not declare"


def recode(cells: Cells, values: Coded | Banded, book: Codebook) -> Recoded:
    """``cells`` as labels."""
    if isinstance(values, Banded):
        return _to_bands(cells, values, book)
    missing = [book.is_missing(cell) or cell in values.missing for cell in cells]
    labels = [None if empty else values.options.get(str(cell)) for cell, empty in zip(cells, missing, strict=True)]
    unknown = [i for i, (label, empty) in enumerate(zip(labels, missing, strict=True)) if label is None and not empty]
    return Recoded(labels, [], unknown)


def _to_bands(cells: Cells, values: Banded, book: Codebook) -> Recoded:
    labels: list[str | None] = []
    numbers: list[float | None] = []
    unknown: list[int] = []
    for i, cell in enumerate(cells):
        number = None
        if cell is not None and not book.is_missing(cell) and cell not in values.missing:
            number = float(cell) if NUMBER.fullmatch(cell) else None
            label = None if number is None else values.band(number)
            if label is None:
                unknown.append(i)
                number = None
        labels.append(None if number is None else values.band(number))
        numbers.append(number)
    return Recoded(labels, numbers, unknown)


def check_labels(raw: Raw, survey: Survey) -> None:
    """Compare what the file calls its codes with the codebook, where the file says so.

    A codebook words labels freely, so a name that nobody knows may pass. But a code that the file calls by the name of another one, or a scale
    of which the codebook knows no name at all, means that the two speak of different codes.

    :raises InputError: with every variable that is meant otherwise.
    """
    coded: list[tuple[str, str, Coded]] = [(f"items.{name}", item.variable, item.scale) for name, item in survey.items.items()]
    coded += [(f"demographics.{name}", known.variable, known.values) for name, known in survey.demographics.items() if isinstance(known.values, Coded)]
    problems = [f"  {place} ({variable}): {problem}" for place, variable, values in coded for problem in _otherwise(raw.labels.get(variable, {}), values)]
    if problems:
        raise InputError(
            f"{raw.path}: calls codes otherwise than the codebook:\n" + "\n".join(problems) + "\n"
            "Correct the codes under `options`, or, where both mean the same, add the file's name under `aliases`."
        )


def _otherwise(named: Mapping[str, str], values: Coded) -> Iterator[str]:
    ours = {_plain(name): label for label in values.labels for name in (label, *values.aliases.get(label, ()))}
    shared = {key: name for key, name in named.items() if key in values.options}
    meant = {key: ours.get(_plain(name)) for key, name in shared.items()}
    for key, label in meant.items():
        if label not in (None, values.options[key]):
            yield f"code {key} is '{shared[key]}' in the file and '{values.options[key]}' in the codebook"
    if shared and not any(meant.values()):
        yield f"the file has {', '.join(f'{key} {name}' for key, name in shared.items())}, of which the codebook knows none"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def describe_unknown(raw: Raw, unknown: Mapping[str, Sequence[int]]) -> str:
    """Lines that tell undeclared codes by variable, how often each occurs, and where first."""
    lines = []
    for variable, rows in unknown.items():
        cells = raw.columns[variable]
        counts = Counter(str(cells[i]) for i in rows)
        first = {str(cells[i]): i for i in reversed(rows)}
        lines += [f"  {raw.place(first[cell])}: field {variable}: code {cell} is not declared ({n} rows)" for cell, n in counts.most_common(5)]
    return "\n".join(lines)
