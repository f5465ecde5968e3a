from pathlib import Path

import gguf
import numpy as np

from stages.tuning import labelling


def test_a_copy_has_the_new_entries_and_all_of_the_old_ones(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_type("adapter")
    writer.add_name("before")
    writer.add_float32("adapter.lora.alpha", 32.0)
    writer.add_array("general.languages", ["en", "de"])
    half, full = np.arange(64, dtype=np.float16).reshape(2, 32), np.arange(6, dtype=np.float32).reshape(3, 2)
    coarse = gguf.quantize(np.ones((2, 32), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.attn_q.lora_a", half)
    writer.add_tensor("blk.0.attn_q.lora_b", full)
    writer.add_tensor("blk.1.attn_q.lora_b", coarse, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    labelling.copy(tmp_path / "a.gguf", tmp_path / "b.gguf", {"general.name": "after", "general.tags": ["x", "y"], "general.base_model.count": 1})
    before, after = gguf.GGUFReader(tmp_path / "a.gguf"), gguf.GGUFReader(tmp_path / "b.gguf")
    values = {name: field.contents() for name, field in after.fields.items() if not name.startswith("GGUF.")}
    assert values == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.lora.alpha": 32.0,
        "general.languages": ["en", "de"],
        "general.name": "after",
        "general.tags": ["x", "y"],
        "general.base_model.count": 1,
    }
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert (old.name, old.tensor_type, old.shape.tolist()) == (new.name, new.tensor_type, new.shape.tolist())
        assert np.array_equal(old.data, new.data)
