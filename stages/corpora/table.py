"""Any other corpus: JSON Lines, CSV or Parquet, with a map from our columns to those of the file."""

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.errors import InputError
from stages.corpora.record import Record

Column = Literal["id", "author", "created_at", "text", "urls"]
Columns = Mapping[Column, str]
"What the file calls our columns."

OPTIONAL: tuple[Column, ...] = ("id", "author", "created_at")


def read(path: Path, columns: Columns) -> Iterator[Record]:
    """Yield the rows of a ``.jsonl``, ``.csv`` or ``.parquet`` file in order, streamed.

    ``columns`` maps ``id``, ``author``, ``created_at``, ``text`` and ``urls`` to names in the file. A column not mapped is taken under our name if
    the file has it, but ``urls`` (a list, or text with a space between two) only where it is mapped; without an ``id`` the row's number
    identifies the post.

    :raises InputError: if the file is missing, of another kind, broken off, or lacks a mapped column or the text.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file.")
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise InputError(f"{path}: a table ends in {', '.join(readers)}, not in '{path.suffix}'. Rename or convert it.")
    names: dict[Column, str] | None = None
    for number, row in readers[path.suffix](path):
        if isinstance(row, str):
            yield Record(f"row {number}", None, None, row.partition("\x1f")[2], "unreadable", f"{path}: row {number}: {row.partition(chr(31))[0]}")
            continue
        if names is None:
            names = _names(path, columns, row)
        yield _record(path, number, row, names)


def _names(path: Path, columns: Columns, row: Mapping[str, object]) -> dict[Column, str]:
    ours_in_order: tuple[Column, ...] = (*OPTIONAL, "text")
    names = {ours: columns.get(ours, ours) for ours in ours_in_order}
    if "urls" in columns:
        names["urls"] = columns["urls"]
    missing = [name for ours, name in names.items() if name not in row and (ours in columns or ours == "text")]
    if missing:
        raise InputError(f"{path}: column {', '.join(missing)} is missing. The file has: {', '.join(row)}. Set columns of this source in params.yaml.")
    return names


def _record(path: Path, number: int, row: Mapping[str, Any], names: Mapping[Column, str]) -> Record:
    def field(ours: Column) -> Any:
        return row.get(names[ours])

    native_id = f"row {number}" if field("id") in (None, "") else str(field("id"))
    text = field("text")
    if not isinstance(text, str):
        return Record(native_id, None, None, "", "unreadable", f"{path}: row {number}: field {names['text']}: {text!r} is no text")
    try:
        created = _time(field("created_at"))
    except (ValueError, TypeError, OverflowError, OSError):
        return Record(native_id, None, None, text, "unreadable", f"{path}: row {number}: field {names['created_at']}: {field('created_at')!r} is no time")
    links = _links(row.get(names["urls"])) if "urls" in names else ()
    if links is None:
        return Record(native_id, None, None, text, "unreadable", f"{path}: row {number}: field {names['urls']}: {row[names['urls']]!r} is no list of links")
    author = None if field("author") in (None, "") else str(field("author"))
    return Record(native_id, author, created, text, None if text.strip() else "empty", links=links)


def _links(value: Any) -> tuple[str, ...] | None:
    if value in (None, ""):
        return ()
    found = value.split() if isinstance(value, str) else value
    return tuple(found) if isinstance(found, list) and all(isinstance(link, str) for link in found) else None


def _time(value: Any) -> datetime | None:
    if value in (None, ""):
        return None
    if isinstance(value, int | float) or (isinstance(value, str) and value.isdigit()):
        return datetime.fromtimestamp(float(value), UTC)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    raise InputError(f"{path}: row {number}: the file ends within the row. Fetch it again.") from error
                yield number, f"is no JSON in UTF-8 ({error})\x1f{line.decode(errors='replace')}"
                continue
            yield number, row if isinstance(row, dict) else f"is no JSON object\x1f{line.decode(errors='replace')}"


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
        reader = csv.DictReader(file, strict=True)
        rows, number = iter(reader), 1
        while True:
            number += 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise InputError(f"{path}: row {number}: a quoted field is not closed or holds a stray quote ({error}). Mend or fetch it again.") from error
            values = [value for value in row.values() if isinstance(value, str)]
            clean = [value.encode(errors="surrogateescape").decode(errors="replace") for value in values]
            if None in row or None in row.values():
                yield number, f"another number of fields than the header\x1f{', '.join(clean)}"
            elif clean != values:
                yield number, f"is not UTF-8\x1f{', '.join(clean)}"
            else:
                yield number, row


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: is not a readable Parquet file ({error}). Fetch it again.") from error
