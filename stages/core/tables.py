"""Parquet tables with explicit schemas, and the schemas that stages share."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.errors import InputError
from stages.core.files import replacing

PROVENANCE = b"plumbline"  # key of the file metadata
POSTS = pa.schema(
    {
        "id": pa.string(),
        "source": pa.string(),
        "author": pa.string(),
        "created_at": pa.timestamp("us", tz="UTC"),
        "text": pa.string(),
        "status": pa.string(),
    }
)
SCORED = pa.schema([*POSTS, ("score", pa.int8()), ("p0", pa.float32()), ("p1", pa.float32()), ("p2", pa.float32()), ("p3", pa.float32()), ("kept", pa.bool_())])
INSTRUCTIONS = pa.schema({"id": pa.string(), "post_id": pa.string(), "instruction": pa.string(), "response": pa.string()})
RESPONSES = INSTRUCTIONS
PREFERENCES = pa.schema({"id": pa.string(), "post_id": pa.string(), "prompt": pa.string(), "chosen": pa.string(), "rejected": pa.string()})

SIDED = pa.schema([*POSTS, ("lean", pa.float32()), ("group", pa.string()), ("links", pa.int32())])
DISCOURSE = pa.schema([*SIDED, ("issue", pa.string()), ("topics", pa.list_(pa.string()))])
SPEECH = pa.schema(
    {
        **dict.fromkeys(("id", "model", "steering", "issue", "topic"), pa.string()),
        **dict.fromkeys(("wording", "repeat"), pa.int32()),
        "text": pa.string(),
        "status": pa.string(),
    }
)
AFFECT = pa.schema({"id": pa.string(), "labels": pa.list_(pa.string()), "scores": pa.list_(pa.float32())})


def rejects(schema: pa.Schema) -> pa.Schema:
    """The schema of rows that a stage took out: the same columns and why."""
    return schema.append(pa.field("reason", pa.string()))


def read(path: Path, schema: pa.Schema) -> pa.Table:
    """Read the columns of ``schema``, in its order and types; further columns are ignored.

    :raises InputError: if the file is missing, is no Parquet file, or lacks a column or holds it in another type.
    """
    try:
        found = pq.read_schema(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file. `dvc repro` makes it.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: is not a readable Parquet file ({error}). Delete it and run `dvc repro`.") from error
    missing = [name for name in schema.names if name not in found.names]
    if missing:
        raise InputError(f"{path}: column {', '.join(missing)} is missing. The file has: {', '.join(found.names)}.")
    table = pq.read_table(path, columns=schema.names)
    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{path}: a column has another type than {schema.to_string(show_field_metadata=False)}: {error}") from error


def provenance(path: Path) -> dict[str, str | int]:
    """What :func:`write` was told about the origin of a table; empty if nothing."""
    kept = (pq.read_schema(path).metadata or {}).get(PROVENANCE)
    return dict(json.loads(kept)) if kept else {}


def write(path: Path, rows: Sequence[Mapping[str, object]] | pa.Table, schema: pa.Schema, origin: Mapping[str, str | int] | None = None) -> None:
    """Write ``rows`` as a zstd-compressed Parquet file that replaces ``path`` when it is complete; ``origin`` goes into its metadata."""
    table = rows.cast(schema) if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=schema)
    if origin:
        table = table.replace_schema_metadata({PROVENANCE: json.dumps(origin, sort_keys=True)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
