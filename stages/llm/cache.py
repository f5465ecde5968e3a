"""The response cache: an answer that was paid for once is never asked for again.

One SQLite file under the repository root serves every stage, experiment and process. It lies outside DVC's outputs, so it survives failed
runs; deleting it costs time and changes no result.
"""

import hashlib
import json
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock

from stages.errors import InputError
from stages.llm.interface import Choice, Completion, LanguageModel, Prompt, Sampling
from stages.workspace import state_folder

WAIT_SECONDS = 60  # for another process that is writing


class Cached:
    """A language model whose answers are kept, and taken from there when the same is asked again."""

    def __init__(self, model: LanguageModel, file: Path | None = None) -> None:
        """Keep the answers of ``model`` in ``file`` (default: the repository's cache)."""
        self.model = model
        self.file = file or state_folder("llm") / "responses.sqlite"
        self._store = _open(self.file)

    @property
    def fingerprint(self) -> str:
        """That of the model behind the cache, at this moment."""
        return self.model.fingerprint

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, repeat: int = 0) -> Iterator[tuple[int, Completion]]:
        """See :class:`stages.llm.interface.LanguageModel`."""
        keys = [self._key("generate", prompt, asdict(sampling), repeat) for prompt in prompts]
        missing = []
        for index, key in enumerate(keys):
            kept = self._get(key)
            if kept is None:
                missing.append(index)
            else:
                yield index, Completion(**kept)
        for position, completion in self.model.generate([prompts[i] for i in missing], sampling, repeat):
            self._put(keys[missing[position]], asdict(completion))
            yield missing[position], completion

    def choose(self, prompts: Sequence[Prompt], options: Sequence[str]) -> Iterator[tuple[int, Choice]]:
        """See :class:`stages.llm.interface.LanguageModel`."""
        keys = [self._key("choose", prompt, list(options), 0) for prompt in prompts]
        missing = []
        for index, key in enumerate(keys):
            kept = self._get(key)
            if kept is None:
                missing.append(index)
            else:
                yield index, Choice(**(kept | {"probabilities": tuple(kept["probabilities"])}))
        for position, choice in self.model.choose([prompts[i] for i in missing], options):
            self._put(keys[missing[position]], asdict(choice))
            yield missing[position], choice

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def _key(self, kind: str, prompt: Prompt, how: object, repeat: int) -> bytes:
        turns = [[turn.role, turn.content] for turn in prompt]
        return hashlib.sha256(json.dumps([kind, self.fingerprint, turns, how, repeat]).encode()).digest()

    def _get(self, key: bytes) -> Any:
        try:
            row = self._store.execute("SELECT answer FROM responses WHERE key = ?", (key,)).fetchone()
        except sqlite3.OperationalError as error:
            raise _unusable(self.file, error) from error
        return json.loads(row[0]) if row else None

    def _put(self, key: bytes, answer: object) -> None:
        try:
            with self._store:  # a transaction for each answer: a killed process loses none, and others wait for microseconds
                self._store.execute("INSERT OR REPLACE INTO responses VALUES (?, ?)", (key, json.dumps(answer)))
        except sqlite3.OperationalError as error:
            raise _unusable(self.file, error) from error


def _unusable(file: Path, error: sqlite3.OperationalError) -> InputError:
    return InputError(f"{file}: the response cache cannot be used ({error}). Is another process holding it, or the disk full?")


def _open(file: Path) -> sqlite3.Connection:
    with filelock.FileLock(file.with_name(f"{file.name}.lock")):
        try:
            return _connect(file)
        except sqlite3.OperationalError as error:
            raise _unusable(file, error) from error
        except sqlite3.DatabaseError:
            aside = file.with_suffix(f".damaged-{int(time.time())}")
            for suffix in ("", "-wal", "-shm"):
                part = file.with_name(file.name + suffix)
                if part.exists():
                    part.rename(aside.with_name(aside.name + suffix))
            print(f"{file}: the response cache was damaged; it is now {aside.name}, and answers are asked for anew.", file=sys.stderr)
            return _connect(file)


def _connect(file: Path) -> sqlite3.Connection:
    store = sqlite3.connect(file, timeout=WAIT_SECONDS)
    try:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = NORMAL")
        store.execute("CREATE TABLE IF NOT EXISTS responses (key BLOB PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID")
        store.commit()
        if store.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check found damage")
    except sqlite3.DatabaseError:
        store.close()
        raise
    return store
