import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.core.errors import InputError
from stages.tuning import huggingface
from stages.tuning.architecture import Architecture
from tests import checkpoints

SIZE = 40


def folder_of(folder: Path, kind: str = "llama3", *, shards: int = 1, dtype: torch.dtype = torch.bfloat16, **changes: object) -> Path:
    described = checkpoints.config(kind, SIZE, **changes)
    (folder / "config.json").write_text(json.dumps(described))
    checkpoints.write_weights(folder, checkpoints.tensors(described, dtype), shards)
    return folder


def read(folder: Path) -> tuple[Architecture, dict[str, torch.Tensor]]:
    architecture = huggingface.read_architecture(folder)
    return architecture, huggingface.read(folder, architecture)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_weight_is_read_as_bfloat16_from_one_file_or_several(tmp_path: Path, shards: int, dtype: torch.dtype) -> None:
    _, found = read(folder_of(tmp_path, shards=shards, dtype=dtype))
    expected = checkpoints.tensors(checkpoints.config("llama3", SIZE), dtype)
    assert found.keys() == expected.keys() and len(found) == 3 + 2 * 9
    assert all(torch.equal(found[name], expected[name].bfloat16()) for name in expected)


def test_weights_that_follow_from_others_are_left_out(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "smollm2")
    weights = load_file(folder / "model.safetensors")
    extra = {"lm_head.weight": weights["model.embed_tokens.weight"].clone(), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    save_file(weights | extra, folder / "model.safetensors")
    assert read(folder)[1].keys() == weights.keys()


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks 1 of 3 files of its weights: model-00002-of-00003\.safetensors"):
        read(folder)


def test_a_shard_without_what_the_index_places_there_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, shards=2)
    file = folder / "model-00001-of-00002.safetensors"
    save_file({name: value for name, value in load_file(file).items() if name != "model.norm.weight"}, file)
    other = folder / "model-00002-of-00002.safetensors"
    save_file({name: value for name, value in load_file(other).items() if name != "model.norm.weight"}, other)
    with pytest.raises(InputError, match=r"model-0000.-of-00002\.safetensors: lacks model\.norm\.weight, which model\.safetensors\.index\.json"):
        read(folder)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    file = folder_of(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors: is no complete safetensors file"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"metadata": {}}'])
def test_a_damaged_index_is_named(tmp_path: Path, content: str) -> None:
    folder_of(tmp_path, shards=2)
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(InputError, match=r"index\.json: is no index"):
        read(tmp_path)


def test_pickled_weights_are_refused_with_a_way_to_others(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickles only, which can run code.*save_pretrained"):
        read(folder)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds neither model\.safetensors nor"):
        read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 32, "num_attention_heads": 4}, r"model\.embed_tokens\.weight has the shape \[40, 64\].*\[40, 32\]"),
        ({"vocab_size": 41}, r"model\.embed_tokens\.weight has the shape \[40, 64\]"),
        ({"num_key_value_heads": 4}, r"self_attn\.k_proj\.weight has the shape \[32, 64\].*\[64, 64\]"),
        ({"num_hidden_layers": 3}, r"lacks 9 tensors, for example model\.layers\.2\."),
        ({"num_hidden_layers": 1}, r"leave no place for: 9 tensors, for example model\.layers\.1\."),
    ],
)
def test_shapes_that_the_config_does_not_say_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = folder_of(tmp_path)
    (folder / "config.json").write_text(json.dumps(checkpoints.config("llama3", SIZE) | change))
    with pytest.raises(InputError, match=message):
        read(folder)


def test_a_bias_is_refused_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    save_file(load_file(folder / "model.safetensors") | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(64)}, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"leave no place for: 1 tensors, for example model\.layers\.0\.self_attn\.q_proj\.bias"):
        read(folder)


def test_quantised_weights_are_refused_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"].to(torch.int8)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"lm_head\.weight: holds numbers of type torch\.int8"):
        read(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["adapter_config.json"], "is an adapter. Give the folder of the model"),
        (["model.Q4_0.gguf"], r"holds GGUF files\. Give one of them, such as .*model\.Q4_0\.gguf"),
        ([], r"holds no config\.json"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused_with_advice(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=message):
        huggingface.read_architecture(tmp_path)


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(InputError, match=r"config\.json: is not readable as JSON"):
        huggingface.read_architecture(tmp_path)
