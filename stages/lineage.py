"""Where a row comes from, and what became of it.

ID is the id of a row in any table under data/, or the id of a post in its dump. Printed are the row's ancestors up to the raw post, each with the stage that
made it, its prompt file, its model and its scores; then all that was made from the row: further rows, rows put aside with the reason, and the adapters
that are trained on such tables.

It reads what the last run left (dvc.lock says what that is) and changes nothing. To have a post and all that follows from it taken out, write its id into
data/external/removed.txt and run `dvc repro`.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq

from stages.core import command, params, tables
from stages.core.errors import InputError
from stages.core.files import sha256, short_hash
from stages.corpora.record import Record
from stages.data import collect

LOCK = Path("dvc.lock")
ADAPTERS = "models/adapters/"
TRAINED_ON = {"corpus": "data/scored/", "posts": "data/instructions/", "synthetic": "data/responses/", "preference": "data/preferences/"}
"The tables that adapters of a dataset learn from; other adapters count for every table that their stage depends on."


@dataclass(frozen=True)
class Made:
    """What a stage read and wrote in the last run."""

    stage: str
    "with its item: filter@left"
    deps: tuple[str, ...]
    outs: tuple[str, ...]

    @property
    def tables(self) -> list[Path]:
        """The tables among its outs that have ids and are there."""
        files = (Path(out) for out in self.outs if out.endswith(".parquet"))
        return [file for file in files if file.exists() and "id" in pq.read_schema(file).names]

    def reads(self, path: str) -> bool:
        """Whether it depends on a file, by its own name or by that of a folder."""
        return any(path == dep or path.startswith(f"{dep}/") for dep in self.deps)

    @property
    def kind(self) -> str:
        """The stage without its item."""
        return self.stage.split("@")[0]


@dataclass(frozen=True)
class Row:
    """A row and where it lies."""

    made: Made
    file: Path
    values: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.values["id"])

    @property
    def post(self) -> str:
        """The id of the post that it goes back to."""
        return str(self.values.get("post_id") or self.id)

    def comes_from(self, other: "Row") -> bool:
        """Whether ``other`` is the row that this one was made from."""
        if other.file == self.file or not self.made.reads(str(other.file)) or "reason" in other.values:
            return False
        return self.id in (other.id, short_hash(self.made.kind, other.id)) or (self.values.get("post_id") == other.id)


def last_run(lock: Path = LOCK) -> list[Made]:
    """Every stage of the last run.

    :raises InputError: if there was none.
    """
    if not lock.exists():
        raise InputError(f"{lock}: there is no such file, so nothing has been made yet. Run `dvc repro`.")
    stages: dict[str, dict[str, Any]] = params.read_yaml(lock).get("stages", {})
    return [Made(name, *(tuple(entry["path"] for entry in stage.get(kind, ())) for kind in ("deps", "outs"))) for name, stage in stages.items()]


def rows_of(run: Sequence[Made], ids: Sequence[str], *columns: str) -> Iterator[Row]:
    """The rows that have one of ``ids`` in one of ``columns``."""
    for made in run:
        for file in made.tables:
            dataset = ds.dataset(file)
            wanted = [ds.field(column).isin(ids) for column in columns if column in dataset.schema.names]
            if wanted:
                condition = wanted[0] if len(wanted) == 1 else wanted[0] | wanted[1]
                yield from (Row(made, file, values) for values in dataset.to_table(filter=condition).to_pylist())


def find(run: Sequence[Made], name: str) -> list[Row]:
    """The rows that ``name`` names, as an id of ours or as a post's id in its dump.

    :raises InputError: if there is none.
    """
    files = [file for made in run for file in made.tables]
    sources = {source for file in files if "source" in pq.read_schema(file).names for source in pq.read_table(file, columns=["source"]).column(0).unique().to_pylist()}
    found = list(rows_of(run, [name, *(short_hash(source, name) for source in sorted(sources))], "id"))
    if not found:
        raise InputError(f"no row has the id '{name}', nor a post in its dump. Looked at: {', '.join(map(str, files)) or 'no table; run `dvc repro`'}.")
    return found


def ancestors(row: Row, family: Sequence[Row]) -> list[Row]:
    """``row`` and the rows that it comes from, the first one first."""
    parents = [other for other in family if row.comes_from(other)]
    closest = next((other for other in parents if row.values.get("post_id") != other.id), parents[0] if parents else None)
    return [*(ancestors(closest, family) if closest else []), row]


def descendants(row: Row, family: Sequence[Row]) -> list[Row]:
    """The rows that were made from ``row``, directly or over others, in the order of the graph."""
    return [other for other in family if other is not row and any(step is row for step in ancestors(other, family)[:-1])]


def adapters(rows: Sequence[Row], run: Sequence[Made]) -> list[str]:
    """The adapters that are trained on tables in which ``rows`` stand, and those that go on from such an adapter."""
    files = {str(row.file) for row in rows if "reason" not in row.values and row.values.get("kept", True)}
    found = []
    for made in run:
        for out in (out for out in made.outs if out.startswith(ADAPTERS)):
            folder = TRAINED_ON.get(out.rsplit("-", 1)[-1], "data/") if made.kind != "undo" else "data/"
            if any(file.startswith(folder) and file in made.deps for file in files):
                found.append(out)
    while more := [out for made in run if any(map(made.reads, found)) for out in made.outs if out.startswith(ADAPTERS) and out not in found]:
        found += more
    return found


def raw(post: Row) -> Record | None:
    """The row of the dump that a post was read from; nothing if the dump no longer has it.

    :raises InputError: if the dump is none of ``collect.sources`` or cannot be read.
    """
    settings = params.load("collect", collect.Params)
    for leaning, source in settings.sources.items():
        if collect.name_of(source) == post.values.get("source"):
            return next((record for record in collect.read(leaning, settings) if short_hash(collect.name_of(source), record.native_id) == post.id), None)
    raise InputError(f"params.yaml: no source of collect.sources is called '{post.values.get('source')}'.")


def described(row: Row, before: Sequence[Row]) -> str:
    """A row as text: its stage, then what it holds that the rows ``before`` it do not, then how it was made."""
    fields = {(name, value) for other in before for name, value in other.values.items() if not isinstance(value, list)}
    texts = {value for _, value in fields if isinstance(value, str)}
    lines = [f"{row.made.stage}: {row.file}", f"  {'id':12}{row.id}"]
    for name, value in row.values.items():
        repeated = not isinstance(value, list) and ((name, value) in fields or value in texts)
        if name != "id" and value is not None and not repeated:
            shown = f"{value:.3f}" if isinstance(value, float) else str(value)
            lines.append(f"  {name:12}" + shown.replace("\n", "\n" + " " * 14))
    return "\n".join([*lines, *how_made(row.made)])


def how_made(made: Made) -> Iterator[str]:
    """The model and the prompt that a stage used, as lines of text."""
    origin = tables.provenance(made.tables[0])
    for path in made.deps:
        if path.endswith(".gguf") or path.startswith("models/servers/"):
            yield f"  {'model':12}{path} {origin.get('model', '')}".rstrip()
        if path.startswith("prompts/"):
            changed = origin.get("prompt") not in (None, sha256(Path(path))[:16] if Path(path).exists() else "")
            yield f"  {'prompt file':12}{path}" + (", changed since" if changed else "")


def report(name: str, run: Sequence[Made]) -> Iterator[str]:
    """The story of each thing that ``name`` names, in paragraphs."""
    found = find(run, name)
    families = {post: list(rows_of(run, [post], "id", "post_id")) for post in dict.fromkeys(row.post for row in found)}
    for family in families.values():
        same = [row for row in family if row.id in {other.id for other in found}]
        last = max(same, key=lambda row: len(ancestors(row, family)))  # a scored post has the id of its post
        chain = ancestors(last, family)
        try:
            record = raw(chain[0])
            yield f"raw post {record.native_id}: {chain[0].values.get('source')}\n  {record.text}" if record else "raw post: no longer in the dump"
        except InputError as error:
            yield f"raw post: {error}"
        for i, row in enumerate(chain):
            yield described(row, chain[:i])
        after = descendants(last, family)
        if after:
            yield "-- what became of it --"
        for row in after:
            yield described(row, ancestors(row, family)[:-1])
        trained = adapters([*same, *after], run)
        yield f"adapters trained on it, unless it is in the share tuning.held_out: {', '.join(trained)}" if trained else "no adapter is trained on it"


def main(name: str) -> None:
    """Print the story."""
    sys.stdout.write("\n\n".join(report(name, last_run())) + "\n")


if __name__ == "__main__":
    command.run(main)
