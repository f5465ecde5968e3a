import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader

from stages.errors import InputError
from stages.tuning import architecture
from stages.tuning.architecture import Architecture, Lora, hidden_states
from stages.tuning.metadata import config, from_config, from_gguf

SMOLLM2_135M = Architecture(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    max_position_embeddings=8192,
    rope_theta=100000.0,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
)


def lora(*attention: str, mlp: bool = False) -> Lora:
    return Lora(rank=4, alpha=8.0, dropout=0.0, attention=attention, mlp=mlp)


def test_the_base_model_has_its_published_dimensions(base_model: Path) -> None:
    assert from_config(base_model / "config.json").model_dump() == pytest.approx(SMOLLM2_135M.model_dump())


def test_metadata_and_tensors_of_a_checkpoint_are_read(small_gguf: Callable[..., Path]) -> None:
    found = from_gguf(GGUFReader(small_gguf()), Path("x"))
    assert (found.vocab_size, found.hidden_size, found.intermediate_size, found.num_hidden_layers) == (300, 64, 128, 2)
    assert (found.num_attention_heads, found.num_key_value_heads, found.max_position_embeddings, found.rope_theta) == (4, 2, 256, 5000.0)
    assert not found.tie_word_embeddings


def test_a_checkpoint_without_output_layer_is_tied(small_gguf: Callable[..., Path]) -> None:
    assert from_gguf(GGUFReader(small_gguf(without=["output"])), Path("x")).tie_word_embeddings


def test_optional_metadata_have_the_format_s_defaults(small_gguf: Callable[..., Path]) -> None:
    found = from_gguf(GGUFReader(small_gguf(without=["attention.head_count_kv", "rope.freq_base"])), Path("x"))
    assert (found.num_key_value_heads, found.rope_theta) == (4, 10000.0)


def test_missing_metadata_are_named(small_gguf: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"x\.gguf.*llama\.block_count"):
        from_gguf(GGUFReader(small_gguf(without=["block_count"])), Path("x.gguf"))


def test_another_architecture_is_refused_by_name(small_gguf: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"x\.gguf.*'gpt2'"):
        from_gguf(GGUFReader(small_gguf("gpt2")), Path("x.gguf"))


def test_a_scaled_rotary_embedding_is_refused(small_gguf: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="rotary"):
        from_gguf(GGUFReader(small_gguf(extra=["rope_freqs"])), Path("x.gguf"))


def test_a_config_reads_back_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config(SMOLLM2_135M) | {"pad_token_id": 2}))
    assert from_config(file) == SMOLLM2_135M
    assert json.loads(file.read_text())["architectures"] == ["LlamaForCausalLM"]


def test_a_config_without_dimensions_names_them_all(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({key: value for key, value in config(SMOLLM2_135M).items() if key not in ("rope_theta", "vocab_size")}))
    with pytest.raises(InputError, match=r"(?s)vocab_size.*rope_theta"):
        from_config(file)


def test_an_unknown_projection_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match=r"tuning\.lora\.attention.*\bo, z;.*q, k, v, output"):
        lora("q", "o", "z").attention_modules()


@pytest.mark.parametrize(
    ("chosen", "modules"),
    [
        (lora("q"), {"attn.q_proj"}),
        (lora("k", "output"), {"attn.k_proj", "attn.output_proj"}),
        (lora("v", mlp=True), {"attn.v_proj", "mlp.w1", "mlp.w2", "mlp.w3"}),
    ],
)
def test_exactly_the_chosen_matrices_get_an_update_of_the_rank(chosen: Lora, modules: set[str]) -> None:
    shapes = {name: tuple(p.shape) for name, p in architecture.build(SMOLLM2_135M, chosen).named_parameters()}
    updated = {name.removeprefix("layers.7.").split(".lora_")[0] for name in shapes if "lora_" in name and name.startswith("layers.7.")}
    assert updated == modules
    for module in modules:
        out, into = shapes[f"layers.7.{module}.weight"]
        assert shapes[f"layers.7.{module}.lora_a.weight"] == (4, into)
        assert shapes[f"layers.7.{module}.lora_b.weight"] == (out, 4)


def test_a_model_is_built_without_memory() -> None:
    assert all(p.is_meta for p in architecture.build(SMOLLM2_135M, lora("q")).parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_hidden_states_and_the_output_layer_make_the_whole_model(tiny: Callable[..., Any], tied: bool) -> None:
    _, model = tiny(tied=tied)
    tokens = torch.arange(24).reshape(2, 12)
    torch.testing.assert_close(model.output(hidden_states(model, tokens)), model(tokens))
