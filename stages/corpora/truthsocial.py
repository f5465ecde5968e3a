"""Truth Social dumps: ``truths.tsv`` of Gerard, Botzer and Weninger (2023), Zenodo 7522646.

Texts hold raw newlines and stray quotes, so rows are read without quoting: physical lines are joined until a row has all its tabs.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from stages.core.errors import InputError
from stages.corpora.record import Record

COLUMNS = (
    *("id", "timestamp", "time_scraped", "is_retruth", "is_reply", "author", "like_count", "retruth_count", "reply_count"),
    *("text", "external_id", "url", "truth_retruthed"),
)
ROW_START = re.compile(rb"-?\d+\t(-1|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?)\t[^\t]*\t[tf]\t[tf]\t")
MISSING = "-1"


def read(path: Path) -> Iterator[Record]:
    """Yield the truths of a dump in file order, one line in memory at a time.

    :raises InputError: if the file is missing, its header lacks a column, or it ends within a row.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Give the path of truths.tsv.")
    with path.open("rb") as file:
        header = file.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n").split("\t")
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise InputError(f"{path}: row 1: column {', '.join(missing)} is missing. The header has: {', '.join(header)}.")
        number, pending = 1, b""
        for line in file:
            if pending and ROW_START.match(line):  # the row before was broken off: do not let it swallow this one
                yield _record(path, header, number, pending)
                pending = b""
            if not pending:
                number += 1
            pending += line
            if pending.count(b"\t") >= len(header) - 1:
                yield _record(path, header, number, pending)
                pending = b""
        if pending.strip():
            raise InputError(f"{path}: row {number}: the file ends within the row, after {pending.count(b'	') + 1} of {len(header)} fields. Download it again.")


def _record(path: Path, header: list[str], number: int, raw: bytes) -> Record:
    def unreadable(problem: str) -> Record:
        text = raw.decode("utf-8", errors="replace").strip()
        return Record(f"row {number}", None, None, text, "unreadable", f"{path}: row {number}: {problem}")

    try:
        fields = raw.decode("utf-8").rstrip("\r\n").split("\t")
    except UnicodeDecodeError as error:
        return unreadable(f"byte {error.start} is not UTF-8")
    if len(fields) != len(header):
        return unreadable(f"{len(fields)} fields instead of {len(header)}")
    row = dict(zip(header, fields, strict=True))
    try:
        created = None if row["timestamp"] == MISSING else datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC)
    except ValueError:
        return unreadable(f"field timestamp: '{row['timestamp'][:40]}' is no time")
    author = None if row["author"] == MISSING else row["author"]
    if row["is_retruth"] == "t" or not row["text"].strip():
        return Record(row["id"], author, created, row["text"], "empty")
    if author is None and row["text"] == MISSING:
        return Record(row["id"], None, created, "", "deleted")
    return Record(row["id"], author, created, row["text"])
