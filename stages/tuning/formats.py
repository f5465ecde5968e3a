"""An adapter as a folder: ``adapter_model.safetensors`` and ``adapter_config.json`` for PEFT, ``adapter.gguf`` for llama.cpp."""

import json
from pathlib import Path

import torch
from gguf import GGUFWriter
from safetensors.torch import save_file
from torchtune.models.convert_weights import tune_to_peft_adapter_config, tune_to_peft_adapter_weights
from torchtune.modules import TransformerDecoder

from stages.tuning.architecture import Architecture, Lora
from stages.tuning.weights import GGUF_NAMES

TO_GGUF = {ours.removesuffix(".weight"): theirs for theirs, ours in GGUF_NAMES.items()}


def lora_weights(model: TransformerDecoder) -> dict[str, torch.Tensor]:
    """The trained matrices by torchtune's names: ``….lora_a.weight`` [rank, in] and ``….lora_b.weight`` [out, rank], on the CPU."""
    return {name: parameter.detach().float().cpu().contiguous() for name, parameter in model.named_parameters() if "lora_" in name}


def write(folder: Path, weights: dict[str, torch.Tensor], architecture: Architecture, lora: Lora, name: str) -> None:
    """Write both forms of an adapter into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    heads = architecture.num_attention_heads, architecture.num_key_value_heads, architecture.hidden_size, architecture.head_dim
    theirs = tune_to_peft_adapter_weights(weights, *heads)
    save_file({key: value.contiguous() for key, value in theirs.items()}, folder / "adapter_model.safetensors")
    targets = [*lora.attention_modules(), *(("w1", "w2", "w3") if lora.mlp else ())]
    config = tune_to_peft_adapter_config({"r": lora.rank, "lora_alpha": lora.alpha, "target_modules": targets})
    config |= {"peft_type": "LORA", "task_type": "CAUSAL_LM", "lora_dropout": lora.dropout, "bias": "none", "base_model_name_or_path": "models/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _write_gguf(folder / "adapter.gguf", weights, lora, name)


def _write_gguf(file: Path, weights: dict[str, torch.Tensor], lora: Lora, name: str) -> None:
    writer = GGUFWriter(file, "llama")
    writer.add_type("adapter")
    writer.add_name(name)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", lora.alpha)
    for key, value in sorted(weights.items()):  # layers.<i>.<module>.lora_<a|b>.weight
        _, block, *module, part, _ = key.split(".")
        writer.add_tensor(f"blk.{block}.{TO_GGUF['.'.join(module)]}.{part}", value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
