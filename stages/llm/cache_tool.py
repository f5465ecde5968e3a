"""The response cache from the command line.

python -m stages.llm.cache_tool show                 how many answers of which model, and how large
python -m stages.llm.cache_tool prune DAYS           delete answers that were asked for more than DAYS days ago
python -m stages.llm.cache_tool export FILE          write all answers as gzipped JSON Lines
python -m stages.llm.cache_tool import FILE          add the answers of such a file; those that are there stay
"""

import argparse
import gzip
import json
import sqlite3
import sys
import time
import zlib
from pathlib import Path

import pydantic

from stages.core.errors import InputError
from stages.core.files import replacing
from stages.core.workspace import state_folder
from stages.llm.cache import connect

DAY = 86_400  # seconds


class Row(pydantic.BaseModel):
    """One line of an export."""

    model_config = pydantic.ConfigDict(extra="forbid")

    key: str = pydantic.Field(pattern="^[0-9a-f]{64}$")
    model: str
    asked: int
    "Unix time"
    answer: dict[str, object]


def show(store: sqlite3.Connection, file: Path) -> str:
    """Answers by model, newest first."""
    lines = [f"{file}: {store.execute('SELECT count(*) FROM answers').fetchone()[0]} answers, {file.stat().st_size / 1e6:.1f} MB"]
    for model, n, last in store.execute("SELECT model, count(*), max(asked) FROM answers GROUP BY model ORDER BY max(asked) DESC"):
        lines.append(f"{n:10} answers of model {model}, the last of {time.strftime('%Y-%m-%d', time.gmtime(last))}")
    return "\n".join(lines)


def prune(store: sqlite3.Connection, days: float, now: float) -> int:
    """Delete answers older than ``days``; how many."""
    deleted = store.execute("DELETE FROM answers WHERE asked < ?", (now - days * DAY,)).rowcount
    store.execute("VACUUM")
    return deleted


def export(store: sqlite3.Connection, target: Path) -> int:
    """Write every answer; how many."""
    n = 0
    with replacing(target) as temporary, temporary.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        for key, model, asked, answer in store.execute("SELECT key, model, asked, answer FROM answers ORDER BY key"):
            file.write((json.dumps({"key": key.hex(), "model": model, "asked": asked, "answer": json.loads(answer)}) + "\n").encode())
            n += 1
    return n


def load(store: sqlite3.Connection, source: Path) -> tuple[int, int]:
    """Add the answers of an export, all or none; how many were new, of how many.

    :raises InputError: if the file is missing, broken off, or a line is no answer.
    """
    store.execute("BEGIN IMMEDIATE")
    try:
        new = n = 0
        with gzip.open(source, "rt", encoding="utf-8") as file:
            for n, line in enumerate(file, 1):
                row = _row(source, n, line)
                new += store.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", (bytes.fromhex(row.key), row.model, row.asked, json.dumps(row.answer))).rowcount
        store.execute("COMMIT")
    except FileNotFoundError as error:
        raise InputError(f"{source}: there is no such file.") from error
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"{source}: is no complete export ({error}). Export it again.") from error
    finally:
        if store.in_transaction:
            store.execute("ROLLBACK")
    return new, n


def _row(source: Path, number: int, line: str) -> Row:
    try:
        return Row.model_validate_json(line)
    except pydantic.ValidationError as error:
        fields = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'line'}: {e['msg']}" for e in error.errors())
        raise InputError(f"{source}: line {number} is no answer: {fields}. Nothing was imported.") from error


def main(argv: list[str] | None = None) -> None:
    """Run one command on the repository's cache."""
    parser = argparse.ArgumentParser(prog="python -m stages.llm.cache_tool", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show")
    commands.add_parser("prune").add_argument("days", type=float)
    commands.add_parser("export").add_argument("file", type=Path)
    commands.add_parser("import").add_argument("file", type=Path)
    arguments = parser.parse_args(argv)
    file = state_folder("llm") / "responses.sqlite"
    try:
        store = connect(file)
        if arguments.command == "show":
            print(show(store, file))
        elif arguments.command == "prune":
            print(f"{prune(store, arguments.days, time.time())} answers deleted")
        elif arguments.command == "export":
            print(f"{export(store, arguments.file)} answers written to {arguments.file}")
        else:
            print("{} of {} answers were new".format(*load(store, arguments.file)))
        store.close()
    except InputError as error:
        print(f"cache_tool: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
