"""The response cache: an answer that was paid for once is never asked for again.

One SQLite file under the repository root serves every stage, experiment and process. It lies outside DVC's outputs, so it survives failed
runs; deleting it costs time and changes no result.
"""

import hashlib
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import filelock

from stages.core.errors import InputError
from stages.core.workspace import state_folder
from stages.llm.interface import Choice, Completion, LanguageModel, Prompt, Sampling

A = TypeVar("A", Completion, Choice)
SCHEMA = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, model TEXT NOT NULL, asked INTEGER NOT NULL, answer TEXT NOT NULL) WITHOUT ROWID"
WAIT_SECONDS = 60  # for another process that is writing


class Cached:
    """A language model whose answers are kept, and taken from there when the same is asked again."""

    def __init__(self, model: LanguageModel, file: Path | None = None) -> None:
        """Keep the answers of ``model`` in ``file`` (default: the repository's cache)."""
        self.model = model
        self.file = file or state_folder("llm") / "responses.sqlite"
        self.hits = 0
        "answers that were there already"
        self._store = connect(self.file)

    @property
    def fingerprint(self) -> str:
        """That of the model behind the cache, at this moment."""
        return self.model.fingerprint

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, repeats: Sequence[int] = ()) -> Iterator[tuple[int, Completion]]:
        """See :class:`stages.llm.interface.LanguageModel`."""
        how, numbers = asdict(sampling), repeats or [0] * len(prompts)
        keys = [self._key(prompt, ["generate", how, repeat]) for prompt, repeat in zip(prompts, numbers, strict=True)]
        return self._answer(keys, Completion, lambda missing: self.model.generate([prompts[i] for i in missing], sampling, [numbers[i] for i in missing]))

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Iterator[tuple[int, Choice]]:
        """See :class:`stages.llm.interface.LanguageModel`."""
        keys = [self._key(prompt, ["choose", list(own)]) for prompt, own in zip(prompts, options, strict=True)]
        return self._answer(keys, Choice, lambda missing: self.model.choose([prompts[i] for i in missing], [options[i] for i in missing]))

    def _answer(self, keys: Sequence[bytes], kind: type[A], ask: Callable[[list[int]], Iterator[tuple[int, A]]]) -> Iterator[tuple[int, A]]:
        """Answers under ``keys``; ``ask`` gets those to the questions at some indices, as places among these."""
        missing: dict[bytes, list[int]] = {}  # what is the same is asked once
        for index, key in enumerate(keys):
            kept = None if key in missing else self._get(key)
            if kept is None:
                missing.setdefault(key, []).append(index)
            else:
                fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
                self.hits += 1
                yield index, kind(**fields)
        waiting = list(missing.items())
        for position, answer in ask([same[0] for _, same in waiting]):
            key, same = waiting[position]
            self._put(key, asdict(answer))
            self.hits += len(same) - 1
            yield from ((index, answer) for index in same)

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def _key(self, prompt: Prompt, how: object) -> bytes:
        turns = [[turn.role, turn.content] for turn in prompt]
        return hashlib.sha256(json.dumps([self.fingerprint, turns, how]).encode()).digest()

    def _get(self, key: bytes) -> Any:
        found = self._run("SELECT answer FROM answers WHERE key = ?", key)
        try:
            return json.loads(found[0][0]) if found else None
        except ValueError:  # damaged on disk: asked for anew
            return None

    def _put(self, key: bytes, answer: object) -> None:
        # a transaction for each answer: a killed process loses none, and others wait for microseconds
        self._run("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", key, self.fingerprint, int(time.time()), json.dumps(answer))

    def _run(self, statement: str, *values: bytes | str | int) -> list[Any]:
        try:
            return self._store.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            raise _unusable(self.file, error) from error
        except sqlite3.DatabaseError:
            self._store.close()
            self._store = connect(self.file, statement, *values)  # another process may have set the damaged file aside already
            return self._store.execute(statement, values).fetchall()


def _unusable(file: Path, error: sqlite3.OperationalError) -> InputError:
    return InputError(f"{file}: the response cache cannot be used ({error}). Is another process holding it, or the disk full?")


def connect(file: Path, *first: bytes | str | int) -> sqlite3.Connection:
    """Open a cache file, or a new one if it is damaged; ``first``, a statement with its values, must work as well.

    :raises InputError: if the file cannot be used now, for example because the disk is full.
    """
    with filelock.FileLock(file.with_name(f"{file.name}.lock")):
        try:
            store = _store(file)
            if first:
                store.execute(str(first[0]), first[1:]).fetchall()
            return store
        except sqlite3.OperationalError as error:
            raise _unusable(file, error) from error
        except sqlite3.DatabaseError:
            return _start_anew(file)


def _start_anew(file: Path) -> sqlite3.Connection:
    """Keep a damaged file aside."""
    aside = file.with_suffix(f".damaged-{int(time.time())}")
    for suffix in ("", "-wal", "-shm"):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    print(f"{file}: the response cache was damaged; it is now {aside.name}, and answers are asked for anew.", file=sys.stderr)
    return _store(file)


def _store(file: Path) -> sqlite3.Connection:
    store = sqlite3.connect(file, timeout=WAIT_SECONDS, isolation_level=None)  # each statement is a transaction
    try:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = NORMAL")
        store.execute(SCHEMA)
    except sqlite3.DatabaseError:
        store.close()
        raise
    return store
