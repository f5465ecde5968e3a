"""A survey's file to respondents: one row each, in the words of the codebook.

in   a .tab, .csv, .dta, .sav or .parquet file, and its codebook
out  data/survey/respondents.parquet: id, weight, status; one column a demographic (label), <name>_number for those that are numbers;
     one column an item (label, null: no answer)

Rows are marked, never dropped. ``status`` is ``kept`` or the first reason against a row: ``nameless`` (no respondent's identifier), ``conflict`` (an
identifier with different answers), ``duplicate``, ``code`` (a code that the codebook does not declare), ``weight`` (negative, or no number),
``unweighted`` (weight 0 or missing), ``empty`` (answers none of the items). Weights are scaled so that those of the kept rows average 1.
"""

import math
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pydantic

from stages.core import command, params, tables
from stages.core.errors import InputError
from stages.core.files import short_hash
from stages.core.params import Section
from stages.surveys import codebook
from stages.surveys.codebook import Survey
from stages.surveys.leakage import TOO_MUCH, leaking
from stages.surveys.raw import Raw, read
from stages.surveys.recoding import Recoded, check_labels, describe_unknown, recode
from stages.surveys.variables import NUMBER

BROKEN = ("nameless", "conflict", "code", "weight")
"What speaks against the file or the codebook, not only against a row."


class Params(Section):
    """``params.yaml: survey``."""

    file: Path
    codebook: Path
    edition: str
    max_unusable: float = pydantic.Field(ge=0, le=1)


def schema(survey: Survey) -> pa.Schema:
    """The columns of the respondents of ``survey``."""
    fields = {"id": pa.string(), "weight": pa.float64(), "status": pa.string()}
    fields |= dict.fromkeys(survey.demographics, pa.string())
    fields |= {f"{name}_number": pa.float64() for name in survey.numbers}
    return pa.schema(fields | dict.fromkeys(survey.items, pa.string()))


def weigh(raw: Raw, survey: Survey) -> tuple[list[float], list[str]]:
    """Each respondent's weight, 0 where there is none, and what speaks against it (``weight``, ``unweighted`` or nothing)."""
    if survey.weight is None:
        return [1.0] * len(raw), [""] * len(raw)
    weights, reasons = [], []
    for cell in raw.columns[survey.weight]:
        missing = survey.codebook.is_missing(cell)
        number = float(cell) if cell is not None and NUMBER.fullmatch(cell) else math.nan
        good = not missing and number > 0 and math.isfinite(number)
        weights.append(number if good else 0.0)
        reasons.append("" if good else "unweighted" if missing or number == 0 else "weight")
    return weights, reasons


def repeated(raw: Raw, survey: Survey) -> list[str]:
    """``nameless``, ``conflict``, ``duplicate`` or nothing for each respondent."""
    names = raw.columns[survey.respondent]
    rows = list(zip(*(raw.columns[variable] for variable in survey.variables), strict=True))
    contents: dict[str | None, set[tuple[str | None, ...]]] = {}
    for name, row in zip(names, rows, strict=True):
        contents.setdefault(name, set()).add(row)
    found, seen = [], set()
    for name in names:
        if survey.codebook.is_missing(name):
            found.append("nameless")
        elif len(contents[name]) > 1:
            found.append("conflict")
        else:
            found.append("duplicate" if name in seen else "")
            seen.add(name)
    return found


def clean(raw: Raw, survey: Survey, max_unusable: float) -> pa.Table:
    """The respondents of a file, marked.

    :raises InputError: if file and codebook do not fit: other labels, a column without any answer, a demographic that leaks answers, more
        than the set share of unusable rows, or no row that can be kept.
    """
    check_labels(raw, survey)
    items = {name: recode(raw.columns[item.variable], item.scale, survey.codebook) for name, item in survey.items.items()}
    known = {name: recode(raw.columns[demographic.variable], demographic.values, survey.codebook) for name, demographic in survey.demographics.items()}
    unknown = {survey.items[name].variable: column.unknown for name, column in items.items() if column.unknown}
    unknown |= {survey.demographics[name].variable: column.unknown for name, column in known.items() if column.unknown}
    undeclared = {i for rows in unknown.values() for i in rows}
    weights, badly_weighted = weigh(raw, survey)
    reasons = zip(
        repeated(raw, survey),
        ["code" if i in undeclared else "" for i in range(len(raw))],
        badly_weighted,
        ["" if any(column.labels[i] for column in items.values()) else "empty" for i in range(len(raw))],
        strict=True,
    )
    status = [next(filter(None, row), "kept") for row in reasons]
    _refuse_empty(raw, survey, {**known, **items})
    _refuse_broken(raw, survey, status, unknown, max_unusable)
    _refuse_leaks(raw, known, items, status)
    mean = sum(weight for weight, mark in zip(weights, status, strict=True) if mark == "kept") / status.count("kept")
    columns: dict[str, object] = {
        "id": [short_hash(survey.name, raw.columns[survey.respondent][i] or f"row {i}") for i in range(len(raw))],
        "weight": [weight / mean for weight in weights],
        "status": status,
    }
    columns |= {name: column.labels for name, column in {**known, **items}.items()}
    columns |= {f"{name}_number": known[name].numbers for name in survey.numbers}
    return pa.table({name: columns[name] for name in schema(survey).names}, schema=schema(survey))


def _refuse_broken(raw: Raw, survey: Survey, status: list[str], unknown: Mapping[str, list[int]], most: float) -> None:
    counts = Counter(status)
    broken = sum(counts[reason] for reason in BROKEN)
    if broken <= most * len(raw) and counts["kept"]:
        return
    lines = [describe_unknown(raw, unknown)] if unknown else []
    fields = {"nameless": survey.respondent, "conflict": survey.respondent, "weight": survey.weight, "unweighted": survey.weight}
    for reason, variable in fields.items():
        if variable and counts[reason]:
            first = status.index(reason)
            lines.append(f"  {raw.place(first)}: field {variable}: {raw.columns[variable][first]} ({counts[reason]} rows: {reason})")
    enough = f"{broken} of {len(raw)} rows are unusable, more than survey.max_unusable = {most} allows"
    raise InputError(
        f"{raw.path}: {enough if counts['kept'] else f'none of {len(raw)} rows can be kept: {dict(counts)}'}:\n"
        + "\n".join([*lines, ""])
        + "Declare such codes in the codebook, under `options` or `missing`; choose another edition or weight; or mend the file."
    )


def _refuse_empty(raw: Raw, survey: Survey, columns: Mapping[str, Recoded]) -> None:
    variables = {name: known.variable for name, known in survey.demographics.items()} | {name: item.variable for name, item in survey.items.items()}
    empty = [f"{variables[name]} ({name})" for name, column in columns.items() if not any(column.labels) and not column.unknown]
    if empty:
        raise InputError(
            f"{raw.path}: nobody has an answer in: {', '.join(empty)}. Was it asked in this edition? Name under `editions` those that ask it, or correct what counts as missing."
        )


def _refuse_leaks(raw: Raw, known: Mapping[str, Recoded], items: Mapping[str, Recoded], status: list[str]) -> None:
    rows = [i for i, mark in enumerate(status) if mark == "kept"]
    labels = {name: [column.labels[i] for i in rows] for name, column in known.items()}
    numbers = {name: [column.numbers[i] for i in rows] for name, column in known.items() if column.numbers}
    answers = {name: [column.labels[i] for i in rows] for name, column in items.items()}
    found = leaking(labels, numbers, answers)
    if found:
        told = ", ".join(f"{name} ({share:.0%})" for name, share in found.items())
        raise InputError(
            f"{raw.path}: the answers explain more than {TOO_MUCH:.0%} of a demographic: {told}. "
            "It is made of them: take it out of the codebook's demographics and list its variable under `leaks`."
        )


def main(source: Path, book: Path, target: Path) -> None:
    """Read and clean one survey."""
    settings = params.load("survey", Params)
    survey = codebook.load(book, settings.edition)
    table = clean(read(source, survey.variables), survey, settings.max_unusable)
    tables.write(target, table, schema(survey))
    counts = Counter(table.column("status").to_pylist())
    print(f"survey {survey.name}: {len(table)} respondents, " + ", ".join(f"{n} {status}" for status, n in counts.most_common()), file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
