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

from stages.errors import InputError
from stages.llm.interface import Choice, Completion, LanguageModel, Prompt, Sampling
from stages.workspace import state_folder

COMMIT_SECONDS = 1.0


class Cached:
    """A language model whose answers are kept, and taken from there when the same is asked again."""

    def __init__(self, model: LanguageModel, file: Path | None = None) -> None:
        """Keep the answers of ``model`` in ``file`` (default: the repository's cache)."""
        self.model = model
        self.file = file or state_folder("llm") / "responses.sqlite"
        self._store = _open(self.file)
        self._last_commit = time.monotonic()

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
        self._commit()

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
        self._commit()

    def close(self) -> None:
        """Write what is pending and close the file."""
        self._commit()
        self._store.close()

    def _key(self, kind: str, prompt: Prompt, how: object, repeat: int) -> bytes:
        turns = [[turn.role, turn.content] for turn in prompt]
        return hashlib.sha256(json.dumps([kind, self.fingerprint, turns, how, repeat]).encode()).digest()

    def _get(self, key: bytes) -> Any:
        row = self._store.execute("SELECT answer FROM responses WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def _put(self, key: bytes, answer: object) -> None:
        try:
            self._store.execute("INSERT OR REPLACE INTO responses VALUES (?, ?)", (key, json.dumps(answer)))
            if time.monotonic() - self._last_commit > COMMIT_SECONDS:
                self._commit()
        except sqlite3.OperationalError as error:
            raise InputError(f"{self.file}: an answer cannot be kept ({error}). Is the disk full?") from error

    def _commit(self) -> None:
        self._store.commit()
        self._last_commit = time.monotonic()


def _open(file: Path) -> sqlite3.Connection:
    try:
        return _connect(file)
    except sqlite3.DatabaseError:
        aside = file.with_suffix(f".damaged-{int(time.time())}")
        for suffix in ("", "-wal", "-shm"):
            part = file.with_name(file.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        print(f"{file}: the response cache was damaged; it is now {aside.name}, and answers are asked for anew.", file=sys.stderr)
        return _connect(file)


def _connect(file: Path) -> sqlite3.Connection:
    store = sqlite3.connect(file, timeout=60)
    try:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = NORMAL")
        store.execute("CREATE TABLE IF NOT EXISTS responses (key BLOB PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID")
        store.commit()
    except sqlite3.DatabaseError:
        store.close()
        raise
    return store
