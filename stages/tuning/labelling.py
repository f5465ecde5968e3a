"""A GGUF file copied with further entries in its metadata."""

from collections.abc import Mapping
from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter


def copy(source: Path, target: Path, entries: Mapping[str, str | int | list[str]]) -> None:
    """Write ``source`` to ``target`` with ``entries`` added; those that it has already are replaced. Tensors stay as they are."""
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture" and name not in entries:
            kind = field.types[0]
            writer.add_key_value(name, field.contents(), kind, sub_type=field.types[-1] if kind == GGUFValueType.ARRAY else None)
    for name, value in entries.items():
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        else:
            writer.add_string(name, value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
