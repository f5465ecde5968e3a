"""Posts with the links that they share: any table with a column of links, or a Truth Social dump with its files of external URLs."""

import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pydantic
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.params import Section
from stages.corpora import table, truthsocial
from stages.corpora.record import Record

URL = re.compile(r"https?://[^\s<>\"'\])]+", re.IGNORECASE)
TRUTHS, URLS, EDGES = "truths.tsv", "external_urls.tsv", "truth_external_url_edges.tsv"


class Source(Section):
    """One corpus: what kind of dump lies where."""

    format: Literal["table", "truthsocial"]
    path: Path
    "a .jsonl, .csv or .parquet file, or a folder with Truth Social's files"
    columns: table.Columns = pydantic.Field(default_factory=dict)


def read(source: Source) -> Iterator[Record]:
    """The posts of ``source`` in order, with their links.

    Where a row lists no links, those in its text count: a text repeats listed links, often in a short form.

    :raises InputError: if the dump cannot be read.
    """
    records = table.read(source.path, source.columns) if source.format == "table" else read_truthsocial(source.path)
    for record in records:
        yield record if record.links or record.unusable == "unreadable" else replace(record, links=tuple(URL.findall(record.text)))


def read_truthsocial(folder: Path) -> Iterator[Record]:
    """The truths of a dump with the links of ``truth_external_url_edges.tsv``. Links are held in memory, truths are not.

    :raises InputError: if a file is missing, lacks a column, or holds an id that is no number.
    """
    links, edges = _read_tsv(folder / URLS, "id", "url"), _read_tsv(folder / EDGES, "truth_id", "url_id")
    urls = dict(zip(_ids(folder / URLS, links, "id").tolist(), links["url"], strict=True))
    truths, targets = _ids(folder / EDGES, edges, "truth_id"), _ids(folder / EDGES, edges, "url_id")
    order = np.argsort(truths, kind="stable")
    truths, targets = truths[order], targets[order]
    for record in truthsocial.read(folder / TRUTHS):
        if not record.native_id.lstrip("-").isdigit():  # an unreadable row, named by its place
            yield record
            continue
        start, end = np.searchsorted(truths, [int(record.native_id), int(record.native_id) + 1])
        yield replace(record, links=tuple(urls[target] for target in targets[start:end].tolist() if target in urls))


def _ids(path: Path, rows: pd.DataFrame, name: str) -> NDArray[np.int64]:
    column = rows[name]
    wrong = ~column.str.fullmatch(r"-?\d{1,18}")
    if wrong.any():
        first = int(wrong.to_numpy().argmax())
        raise InputError(f"{path}: row {first + 2}: field {name}: '{column.iloc[first]}' is no number. Download the file again.")
    return column.to_numpy().astype(np.int64)


def _read_tsv(path: Path, *names: str) -> pd.DataFrame:
    try:
        rows = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file. It is part of the Truth Social download.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not readable as TSV: {error}. Download it again.") from error
    missing = [name for name in names if name not in rows.columns]
    if missing:
        raise InputError(f"{path}: row 1: column {', '.join(missing)} is missing. The header has: {', '.join(rows.columns)}.")
    return rows.fillna("")
