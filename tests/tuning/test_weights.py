from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file
from torch.nn import functional

from stages.core.errors import InputError
from stages.llm.llamacpp import LlamaCpp
from stages.tuning import weights
from stages.tuning.architecture import Architecture, Lora
from tests.logits import llama_logits

CPU = torch.device("cpu")
LORA = Lora(rank=4, alpha=8.0, dropout=0.0, attention=("q", "v"), mlp=True)
TEXT = (
    "The city council voted on Tuesday to raise the fare of the buses, which had not changed for nine years. "
    "Drivers had asked for better pay, and riders had asked for shorter waits. The mayor said that both would now be possible."
)


def plain_llama(folder: Path, architecture: Architecture, tokens: torch.Tensor) -> torch.Tensor:
    """Logits [s, v] of a Hugging Face folder, by the definition of that layout: a head's first half rotates against its second half."""
    w = load_file(folder / "model.safetensors")
    heads, groups, s = architecture.num_attention_heads, architecture.num_key_value_heads, len(tokens)
    size = architecture.hidden_size // heads
    angles = torch.arange(s)[:, None] * architecture.rope_theta ** (-torch.arange(0, size, 2) / size)
    cos, sin = (torch.cat([f(angles), f(angles)], dim=1) for f in (torch.cos, torch.sin))

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + architecture.rms_norm_eps).sqrt() * w[name]

    def rotate(x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat([-second, first], dim=-1) * sin

    def split(x: torch.Tensor, n: int) -> torch.Tensor:
        return x.view(s, n, size).transpose(0, 1).repeat_interleave(heads // n, dim=0)

    h = w["model.embed_tokens.weight"][tokens]
    for i in range(architecture.num_hidden_layers):
        at = f"model.layers.{i}."
        x = norm(h, at + "input_layernorm.weight")
        q, k, v = (split(x @ w[f"{at}self_attn.{part}_proj.weight"].T, n) for part, n in (("q", heads), ("k", groups), ("v", groups)))
        scores = rotate(q) @ rotate(k).transpose(1, 2) / size**0.5 + torch.full((s, s), -torch.inf).triu(1)
        h = h + (scores.softmax(-1) @ v).transpose(0, 1).reshape(s, -1) @ w[at + "self_attn.o_proj.weight"].T
        x = norm(h, at + "post_attention_layernorm.weight")
        gate, up, down = (w[f"{at}mlp.{part}_proj.weight"].T for part in ("gate", "up", "down"))
        h = h + (functional.silu(x @ gate) * (x @ up)) @ down
    return norm(h, "model.norm.weight") @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


def test_every_tensor_of_a_checkpoint_is_read(small_gguf: Callable[..., Path]) -> None:
    file = small_gguf()
    _, found = weights.read_gguf(file)
    theirs = {tensor.name: torch.from_numpy(np.array(tensor.data)).bfloat16() for tensor in GGUFReader(file).tensors}
    assert len(found) == len(theirs) == 3 + 2 * 9
    pairs = {
        "token_embd": "tok_embeddings.weight",
        "output_norm": "norm.scale",
        "output": "output.weight",
        "blk.1.attn_q": "layers.1.attn.q_proj.weight",
    }
    pairs |= {
        "blk.0.ffn_gate": "layers.0.mlp.w1.weight",
        "blk.0.ffn_down": "layers.0.mlp.w2.weight",
        "blk.1.ffn_up": "layers.1.mlp.w3.weight",
    }
    for name, ours in pairs.items():
        assert torch.equal(found[ours], theirs[f"{name}.weight"])


def test_a_truncated_checkpoint_stops_wherever_it_was_cut(small_gguf: Callable[..., Path], tmp_path: Path) -> None:
    whole, cut = small_gguf().read_bytes(), tmp_path / "cut.gguf"
    for length in [*range(0, 1500, 7), len(whole) // 3, len(whole) - 64]:
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.gguf"):
            weights.read_gguf(cut)


def test_a_file_that_is_no_checkpoint_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("this is a letter, not a model " * 50)
    with pytest.raises(InputError, match=r"text\.gguf.*no complete GGUF"):
        weights.read_gguf(tmp_path / "text.gguf")
    with pytest.raises(InputError, match=r"none\.gguf.*no such file"):
        weights.read_gguf(tmp_path / "none.gguf")


def test_a_tensor_that_llama_lacks_is_refused_by_name(small_gguf: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"blk\.0\.attn_q_norm\.weight"):
        weights.read_gguf(small_gguf(extra=["blk.0.attn_q_norm"]))


@pytest.mark.parametrize("tied", [True, False])
def test_weights_survive_the_folder_exactly(tiny: Callable[..., Any], tmp_path: Path, tied: bool) -> None:
    architecture, model = tiny(tied=tied)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" not in name}
    weights.write_folder(tmp_path / "again", architecture, before)
    again_architecture, again = weights.load_model(tmp_path / "again", LORA, CPU, 1)
    after = {name: p for name, p in again.named_parameters() if "lora_" not in name}
    assert again_architecture == architecture
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    ours, theirs = load_file(tmp_path / "again" / "model.safetensors"), load_file(tmp_path / "tiny" / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("tied", [True, False])
def test_the_folder_holds_the_layout_of_hugging_face(tiny: Callable[..., Any], tmp_path: Path, tied: bool) -> None:
    architecture, model = tiny(tied=tied, filled=False)
    tokens = torch.randint(300, (20,), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens[None])[0], plain_llama(tmp_path / "tiny", architecture, tokens), atol=1e-4, rtol=1e-4)


def test_only_fresh_lora_matrices_are_trainable_and_change_nothing_yet(tiny: Callable[..., Any]) -> None:
    _, model = tiny(filled=False)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {name for name, _ in model.named_parameters() if "lora_" in name}
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    assert all(not p.any() for name, p in model.named_parameters() if "lora_b" in name)
    assert all(p.any() for name, p in model.named_parameters() if "lora_a" in name)


def test_the_seed_decides_the_fresh_matrices(tiny: Callable[..., Any]) -> None:
    first, same, other = (dict(tiny(filled=False, seed=seed)[1].named_parameters())["layers.0.mlp.w1.lora_a.weight"] for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_an_incomplete_folder_is_refused(tiny: Callable[..., Any], tmp_path: Path) -> None:
    tiny()
    file = tmp_path / "tiny" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="tiny: is no complete base model"):
        weights.load_model(tmp_path / "tiny", LORA, CPU, 1)
    with pytest.raises(InputError, match="nowhere: is no complete base model"):
        weights.load_model(tmp_path / "nowhere", LORA, CPU, 1)


def test_a_folder_with_more_layers_than_its_config_is_refused(tiny: Callable[..., Any], tmp_path: Path) -> None:
    tiny()
    config = tmp_path / "tiny" / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 1'))
    with pytest.raises(InputError, match=r"9 tensors.*layers\.1\."):
        weights.load_model(tmp_path / "tiny", LORA, CPU, 1)


def test_a_folder_that_lacks_a_tensor_is_refused_by_name(tiny: Callable[..., Any], tmp_path: Path) -> None:
    tiny()
    file = tmp_path / "tiny" / "model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if name != "model.norm.weight"}, file)
    with pytest.raises(InputError, match="tiny"):
        weights.load_model(tmp_path / "tiny", LORA, CPU, 1)


def test_torch_and_llama_cpp_agree_on_real_text(base_model: Path) -> None:
    with LlamaCpp(base_model / "model.gguf", sequences=1, context=256) as model:
        tokens = model.tokenizer.tokens(TEXT)
        theirs = llama_logits(model, tokens)
    _, ours_model = weights.load_model(base_model, LORA, CPU, 1)
    with torch.no_grad():
        ours = ours_model.float()(torch.tensor([tokens]))[0].numpy()
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] >= 0.995
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.9
