"""Which requests were handed in as which batch: kept from before a batch is submitted until its answers can no longer be fetched."""

import time
from collections.abc import Iterator
from pathlib import Path

import pydantic

from stages.core.files import replacing, short_hash

KEPT_SECONDS = 30 * 24 * 3600
"How long OpenAI keeps answers."


class Record(pydantic.BaseModel):
    """What is kept of a batch."""

    name: str
    "in the batch's metadata"
    ids: list[str]
    "of its requests"
    batch: str | None = None
    "its number at the server; none: it may have been submitted or not"

    @classmethod
    def of(cls, ids: list[str]) -> "Record":
        """The record of a batch that is about to be submitted, under a name that none had before."""
        return cls(name=short_hash(time.time_ns(), *ids), ids=ids)


class Records:
    """The records of one server and model, one file each."""

    def __init__(self, folder: Path) -> None:
        """Keep them in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def known(self) -> Iterator[Record]:
        """All whose batches may still have answers, the latest first; older ones are deleted."""
        for file in sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True):
            if time.time() - file.stat().st_mtime > KEPT_SECONDS:
                file.unlink()
                continue
            try:
                yield Record.model_validate_json(file.read_bytes())
            except ValueError:  # written by another version
                file.unlink()

    def keep(self, record: Record) -> None:
        """Write ``record``, in place of what was known of it."""
        with replacing(self._folder / f"{record.name}.json") as file:
            file.write_text(record.model_dump_json())

    def forget(self, record: Record) -> None:
        """Delete ``record``."""
        (self._folder / f"{record.name}.json").unlink(missing_ok=True)
