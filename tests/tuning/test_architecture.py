from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.core.errors import InputError
from stages.tuning import architecture
from stages.tuning.architecture import Architecture, Lora, hidden_states
from stages.tuning.metadata import from_config

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
