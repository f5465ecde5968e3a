import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from torchtune.modules.peft import LoRALinear

from stages.llm.llamacpp import LlamaCpp
from stages.tuning import formats, weights
from stages.tuning.architecture import Lora
from tests.logits import llama_logits

CPU = torch.device("cpu")
TEXT = "The river rose by two metres after the storm, and the farmers moved their cattle to the hills before dark, as their parents had done."


def folder_of(tiny: Callable[..., Any], tmp_path: Path, lora: Lora) -> tuple[Any, Any, Path]:
    architecture, model = tiny(lora=lora)
    formats.write(tmp_path / "adapter", formats.lora_weights(model), architecture, lora, "test")
    return architecture, model, tmp_path / "adapter"


def test_merging_the_update_into_the_weights_equals_applying_it(tiny: Callable[..., Any]) -> None:
    lora = Lora(rank=4, alpha=12.0, dropout=0.0, attention=("q", "k", "v", "output"), mlp=True)
    _, model = tiny(lora=lora)
    tokens = torch.arange(40).reshape(2, 20)
    with torch.no_grad():
        applied = model(tokens)
        found = formats.lora_weights(model)
        parameters = dict(model.named_parameters())
        for name in [name for name in found if "lora_a" in name]:
            b = name.replace("lora_a", "lora_b")
            parameters[name.replace("lora_a.", "")] += 12.0 / 4 * found[b] @ found[name]
            parameters[b].zero_()
        assert len(found) == 2 * 2 * 7
        torch.testing.assert_close(model(tokens), applied, atol=1e-4, rtol=1e-4)


def test_the_folder_describes_itself_to_peft(tiny: Callable[..., Any], tmp_path: Path) -> None:
    lora = Lora(rank=4, alpha=12.0, dropout=0.25, attention=("q", "output"), mlp=True)
    _, _, folder = folder_of(tiny, tmp_path, lora)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == {"q_proj", "o_proj", "gate_proj", "down_proj", "up_proj"}
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 12.0, 0.25)
    assert (config["peft_type"], config["task_type"], config["bias"]) == ("LORA", "CAUSAL_LM", "none")


def test_attention_alone_names_no_other_module(tiny: Callable[..., Any], tmp_path: Path) -> None:
    _, _, folder = folder_of(tiny, tmp_path, Lora(rank=4, alpha=4.0, dropout=0.0, attention=("v",), mlp=False))
    assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == ["v_proj"]
    shapes = {name: tuple(value.shape) for name, value in load_file(folder / "adapter_model.safetensors").items()}
    expected = {}
    for i in range(2):  # 2 key-value heads of 16: values have width 32
        expected[f"base_model.model.model.layers.{i}.self_attn.v_proj.lora_A.weight"] = (4, 64)
        expected[f"base_model.model.model.layers.{i}.self_attn.v_proj.lora_B.weight"] = (32, 4)
    assert shapes == expected


def rows_of_halves(heads: int, size: int) -> list[int]:
    """For each row of the layout in halves (a head's first parts, then its second parts), the row of the layout in pairs."""
    return [head * size + 2 * i + part for head in range(heads) for part in (0, 1) for i in range(size // 2)]


def test_queries_and_keys_are_permuted_as_the_base_is_and_values_are_not(tiny: Callable[..., Any], tmp_path: Path) -> None:
    lora = Lora(rank=4, alpha=12.0, dropout=0.0, attention=("q", "k", "v"), mlp=False)
    _, model, folder = folder_of(tiny, tmp_path, lora)
    base, adapter = load_file(tmp_path / "tiny" / "model.safetensors"), load_file(folder / "adapter_model.safetensors")
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(2))
    for name, rows in (("q", rows_of_halves(4, 16)), ("k", rows_of_halves(2, 16)), ("v", list(range(32)))):
        at = f"layers.1.self_attn.{name}_proj"
        a, b = (adapter[f"base_model.model.model.{at}.lora_{part}.weight"] for part in "AB")
        theirs = x @ (base[f"model.{at}.weight"] + 12.0 / 4 * b @ a).T
        with torch.no_grad():
            ours = getattr(model.layers[1].attn, f"{name}_proj")(x)
        torch.testing.assert_close(theirs, ours[:, rows], atol=1e-5, rtol=1e-4)


def test_matrices_are_read_off_in_float32_on_the_cpu(tiny: Callable[..., Any]) -> None:
    _, model = tiny()
    found = formats.lora_weights(model)
    assert found.keys() == {f"{name}.lora_{part}.weight" for name, module in model.named_modules() if isinstance(module, LoRALinear) for part in "ab"}
    assert all(value.dtype == torch.float32 and value.device == CPU and not value.requires_grad for value in found.values())


def test_llama_cpp_answers_with_the_adapter_as_torch_does(base_model: Path, tmp_path: Path) -> None:
    lora = Lora(rank=8, alpha=16.0, dropout=0.0, attention=("q", "k", "v", "output"), mlp=True)
    architecture, model = weights.load_model(base_model, lora, CPU, 1)
    for name, parameter in model.named_parameters():
        if "lora_b" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    formats.write(tmp_path, formats.lora_weights(model), architecture, lora, "random")
    with LlamaCpp(base_model / "model.gguf", sequences=1, context=256) as llm:
        tokens = llm.tokenizer.tokens(TEXT)
        without = llama_logits(llm, tokens)
        llm.attach(tmp_path / "adapter.gguf")
        theirs = llama_logits(llm, tokens)
        llm.attach(None)
        restored = llama_logits(llm, tokens)
    with torch.no_grad():
        ours = model.float()(torch.tensor([tokens]))[0].numpy()
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] >= 0.995
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() >= 0.95
    assert (ours - theirs).std() < 0.3 * (theirs - without).std()  # what is left apart is small beside what the adapter changed
    np.testing.assert_array_equal(restored, without)


def test_the_llama_cpp_file_scales_by_alpha_and_names_every_matrix(tiny: Callable[..., Any], tmp_path: Path) -> None:
    lora = Lora(rank=4, alpha=12.0, dropout=0.0, attention=("q",), mlp=True)
    _, model, folder = folder_of(tiny, tmp_path, lora)
    reader = GGUFReader(folder / "adapter.gguf")
    facts = {key: reader.fields[key].contents() for key in ("general.type", "general.architecture", "adapter.type", "adapter.lora.alpha")}
    assert facts == {"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora", "adapter.lora.alpha": 12.0}
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    modules = ("attn_q", "ffn_gate", "ffn_down", "ffn_up")
    assert tensors.keys() == {f"blk.{i}.{name}.weight.lora_{part}" for i in range(2) for name in modules for part in "ab"}
    ours = formats.lora_weights(model)
    np.testing.assert_array_equal(tensors["blk.1.ffn_down.weight.lora_a"], ours["layers.1.mlp.w2.lora_a.weight"].numpy())
    np.testing.assert_array_equal(tensors["blk.0.attn_q.weight.lora_b"], ours["layers.0.attn.q_proj.lora_b.weight"].numpy())
