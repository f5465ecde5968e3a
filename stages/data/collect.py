"""Raw dumps to posts: one table, each row marked with what it is good for.

in   a dump: Truth Social's truths.tsv, a Reddit Politosphere folder, or any JSONL, CSV or Parquet table
     data/external/removed.txt: posts to take out
out  data/posts/<leaning>.parquet: id, source, author, created_at, text, status

Rows are marked, never dropped. ``status`` is ``kept`` or the first reason against a row: ``removed`` (then nothing but its id is left), ``unreadable``,
``deleted``, ``empty``, ``language``, ``spam``, ``short``, ``duplicate``. Texts are masked (links, mentions, e-mail addresses, telephone numbers) and authors
hashed with a salt.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from stages.core import command, params
from stages.core.errors import InputError
from stages.core.files import replacing, short_hash
from stages.core.params import Section
from stages.core.progress import Progress
from stages.core.tables import POSTS
from stages.corpora import cleaning, politosphere, removal, table, truthsocial
from stages.corpora.duplicates import DuplicateFinder
from stages.corpora.record import Record
from stages.corpora.removal import Removals

CHUNK = 10_000
NOTHING_REMOVED = Removals()


class Source(Section):
    """One corpus: what kind of dump lies where."""

    format: Literal["truthsocial", "politosphere", "table"]
    path: Path
    columns: table.Columns = pydantic.Field(default_factory=dict)


class Params(Section):
    """``params.yaml: collect``."""

    sources: dict[str, Source]
    parties: dict[str, Literal["dem", "rep"]]
    language: str
    language_certainty: float = pydantic.Field(ge=0, le=1)
    min_words: int = pydantic.Field(ge=1)
    duplicate_similarity: float = pydantic.Field(gt=0, le=1)
    max_unreadable: float = pydantic.Field(ge=0, le=1)
    salt: str


def read(leaning: str, settings: Params) -> Iterator[Record]:
    """The rows of the dump that ``settings`` name for ``leaning``.

    :raises InputError: if the dump cannot be read, or nothing says which party's subreddits count.
    """
    if leaning not in settings.sources:
        raise InputError(f"params.yaml: collect.sources has no entry for '{leaning}', only for {', '.join(settings.sources)}. Add it.")
    source = settings.sources[leaning]
    if source.format == "truthsocial":
        return truthsocial.read(source.path)
    if source.format == "table":
        return table.read(source.path, source.columns)
    if leaning not in settings.parties:
        raise InputError(f"params.yaml: collect.parties has no entry for '{leaning}'. Say which party's subreddits count: dem or rep.")
    return politosphere.read(source.path, settings.parties[leaning], settings.language)


def name_of(source: Source) -> str:
    """What the table calls a source, and its ids are made from; the folder that a dump lies in does not matter."""
    return f"{source.format}:{source.path.name}"


def to_post(record: Record, source: str, settings: Params) -> dict[str, object]:
    """One row of the table, marked with everything that can be told from the row alone."""
    text = cleaning.mask(record.text)
    author = None if record.author is None else hash_author(source, record.author, settings.salt)
    return {
        "id": short_hash(source, record.native_id),
        "source": source,
        "author": author,
        "created_at": record.created_at,
        "text": text,
        "status": record.unusable or judge_text(text, settings),
    }


def emptied(post: dict[str, object]) -> dict[str, object]:
    """A row of which only the id, the source and the mark are left."""
    return post | {"author": None, "created_at": None, "text": "", "status": removal.STATUS}


def hash_author(source: str, author: str, salt: str) -> str:
    """16 hexadecimal digits that tell a source's authors apart and, without the salt, cannot be looked up."""
    key = salt.encode()
    key = key if len(key) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(key).digest()
    return hashlib.blake2b(f"{source}\x1f{author}".encode(errors="surrogatepass"), key=key, digest_size=8).hexdigest()


def judge_text(text: str, settings: Params) -> str:
    """``spam``, ``short``, ``language`` or ``kept``: what a masked text alone tells."""
    if cleaning.is_spam(text):
        return "spam"
    if len(cleaning.words(text)) < settings.min_words:
        return "short"
    code, probability = cleaning.language(text)
    return "language" if code != settings.language and probability >= settings.language_certainty else "kept"


def mark_duplicates(status: pa.Array, repeated: np.ndarray) -> pa.Array:
    """``status`` [n] with ``duplicate`` where a kept row repeats an earlier one (booleans [n])."""
    return pa.array(np.where(repeated & (np.asarray(status) == "kept"), "duplicate", np.asarray(status)), pa.string())


def collect(records: Iterator[Record], source: str, settings: Params, target: Path, removals: Removals = NOTHING_REMOVED) -> Counter[str]:
    """Stream ``records`` into the Parquet file ``target``; how many rows got each status.

    Twice over the rows: duplicates are only known at the end, and texts do not stay in memory.

    :raises InputError: if more rows are unreadable than the set share, or no row is kept. ``target`` is then left as it was.
    """
    finder = DuplicateFinder(settings.duplicate_similarity)
    ids: list[np.ndarray] = []
    problems: list[str] = []
    counts: Counter[str] = Counter()
    progress = Progress("collect")
    with TemporaryDirectory() as folder, replacing(target) as final:
        first = Path(folder) / "first.parquet"
        with pq.ParquetWriter(first, POSTS, compression="zstd") as writer:
            while chunk := list(islice(records, CHUNK)):
                problems += [record.problem for record in chunk if record.problem][: max(0, 5 - len(problems))]
                rows = [to_post(record, source, settings) for record in chunk]
                for row in rows:  # removed ones too, so that no copy takes their place
                    finder.add(str(row["text"]) if row["status"] == "kept" else "")
                rows = [emptied(row) if removals.name(record.native_id, str(row["id"])) else row for record, row in zip(chunk, rows, strict=True)]
                ids.append(np.array([int(str(row["id"]), 16) for row in rows], dtype=np.uint64))
                counts.update(str(row["status"]) for row in rows)
                writer.write_table(pa.Table.from_pylist(rows, schema=POSTS))
                progress.add(len(rows))
        _refuse_broken(counts, problems, settings)
        repeated = finder.find() | _seen_before(np.concatenate(ids) if ids else np.zeros(0, np.uint64))
        counts.clear()
        with pq.ParquetFile(first) as source_file, pq.ParquetWriter(final, POSTS, compression="zstd") as writer:
            start = 0
            for batch in source_file.iter_batches(batch_size=CHUNK):
                status = mark_duplicates(batch.column("status"), repeated[start : start + len(batch)])
                counts.update(status.to_pylist())
                writer.write_batch(batch.set_column(POSTS.get_field_index("status"), POSTS.field("status"), status))
                start += len(batch)
        if not counts["kept"]:
            raise InputError(f"{target}: no post of {sum(counts.values())} is kept: {dict(counts)}. Is the source the right one, and collect.language?")
    progress.close()
    return counts


def _seen_before(ids: np.ndarray) -> np.ndarray:
    seen = np.ones(len(ids), dtype=bool)
    seen[np.unique(ids, return_index=True)[1]] = False
    return seen


def _refuse_broken(counts: Counter[str], problems: list[str], settings: Params) -> None:
    total, broken = sum(counts.values()), counts["unreadable"]
    if broken > settings.max_unreadable * total:
        raise InputError(
            f"{broken} of {total} rows are unreadable, more than collect.max_unreadable = {settings.max_unreadable} allows. The first:\n  "
            + "\n  ".join(problems)
            + "\nMend the file, or allow more."
        )


def main(leaning: str, source: Path, removed: Path, target: Path) -> None:
    """Collect the posts of one leaning."""
    settings = params.load("collect", Params)
    counts = collect(read(leaning, settings), name_of(settings.sources[leaning]), settings, target, removal.read(removed))
    print(f"collect {leaning}: {sum(counts.values())} rows, " + ", ".join(f"{n} {status}" for status, n in counts.most_common()), file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
