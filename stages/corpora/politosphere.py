"""Reddit Politosphere dumps of Hofmann, Schuetze and Pierrehumbert (2022), Zenodo 5851729.

A folder with ``comments_YYYY-MM.bz2`` files (a JSON object a line) and ``subreddits_metadata.json``, which tells each subreddit's party.
"""

import bz2
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.corpora.record import Record

COLUMNS = ("id", "author", "body", "created_utc", "language", "subreddit")
DELETED = ("[deleted]", "[removed]")


def read(folder: Path, party: str, language: str) -> Iterator[Record]:
    """Yield the comments in subreddits of ``party`` (``dem`` or ``rep``), month after month, one line in memory at a time.

    :raises InputError: if the folder lacks its files, no subreddit is of that party, or a bz2 file is broken off.
    """
    subreddits = _subreddits(folder / "subreddits_metadata.json", party)
    months = sorted(folder.glob("comments_*.bz2"))
    if not months:
        raise InputError(f"{folder}: holds no comments_YYYY-MM.bz2. Give the folder of a Politosphere download.")
    for month in months:
        number = 0
        try:
            with bz2.open(month, "rb") as lines:
                for number, line in enumerate(lines, 1):
                    record = _record(month, number, line, subreddits, language)
                    if record:
                        yield record
        except (EOFError, OSError) as error:
            raise InputError(f"{month}: row {number + 1}: the bz2 stream is broken ({error}). Download the file again.") from error


def _subreddits(path: Path, party: str) -> frozenset[str]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        names = frozenset(row["subreddit"] for row in rows if row["party"] == party)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file. It is part of the Politosphere download.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not one JSON object with subreddit and party a line: {error!r}. Download it again.") from error
    if not names:
        raise InputError(f"{path}: no subreddit is of party '{party}'; there are: {', '.join(sorted({str(row['party']) for row in rows}))}. See collect.parties.")
    return names


def _record(month: Path, number: int, line: bytes, subreddits: frozenset[str], language: str) -> Record | None:
    def unreadable(problem: str) -> Record:
        text = line.decode("utf-8", errors="replace").strip()
        return Record(f"{month.name} row {number}", None, None, text, "unreadable", f"{month}: row {number}: {problem}")

    try:
        row: Any = json.loads(line)
    except UnicodeDecodeError as error:
        return unreadable(f"byte {error.start} is not UTF-8")
    except ValueError as error:
        return unreadable(f"is no JSON ({error})")
    missing = [name for name in COLUMNS if not isinstance(row, dict) or name not in row]
    if missing and number == 1:
        raise InputError(f"{month}: row 1: field {', '.join(missing)} is missing. The row has: {', '.join(row) if isinstance(row, dict) else row}.")
    if missing:
        return unreadable(f"field {', '.join(missing)} is missing")
    wrong = [name for name in ("id", "author", "body", "subreddit") if not isinstance(row[name], str)]
    if wrong:
        return unreadable(f"field {wrong[0]}: {row[wrong[0]]!r} is no text")
    if row["subreddit"] not in subreddits:
        return None
    try:
        created = datetime.fromtimestamp(int(row["created_utc"]), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return unreadable(f"field created_utc: {row['created_utc']!r} is no time")
    author = None if row["author"] in DELETED else row["author"]
    deleted = author is None or row["body"] in DELETED
    other = row["language"] not in (language, None, "")
    return Record(row["id"], author, created, row["body"], "deleted" if deleted else "language" if other else None)
