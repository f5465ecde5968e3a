"""Weights of a base model: from GGUF to a Hugging Face folder, and from there into torchtune's model with fresh LoRA layers.

GGUF keeps the query and key matrices in the interleaved rotary layout that torchtune uses too; Hugging Face permutes them.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
import torch
from gguf import GGUFReader
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torchtune.models.convert_weights import hf_to_tune, tune_to_hf
from torchtune.modules import TransformerDecoder

from stages.core.errors import InputError
from stages.tuning import metadata
from stages.tuning.architecture import Architecture, Lora, build, shapes

GGUF_NAMES = {
    "token_embd.weight": "tok_embeddings.weight",
    "output_norm.weight": "norm.scale",
    "output.weight": "output.weight",
    "attn_norm.weight": "sa_norm.scale",
    "attn_q.weight": "attn.q_proj.weight",
    "attn_k.weight": "attn.k_proj.weight",
    "attn_v.weight": "attn.v_proj.weight",
    "attn_output.weight": "attn.output_proj.weight",
    "ffn_norm.weight": "mlp_norm.scale",
    "ffn_gate.weight": "mlp.w1.weight",
    "ffn_down.weight": "mlp.w2.weight",
    "ffn_up.weight": "mlp.w3.weight",
}
"GGUF's tensor names, without the block's number, and torchtune's."

Weights = dict[str, torch.Tensor]


def read_gguf(file: Path) -> tuple[Architecture, Weights]:
    """Dequantised weights (bfloat16, torchtune's names and layout) and the architecture of a GGUF checkpoint.

    :raises InputError: if the file is missing, is no complete GGUF file, or not of Llama's architecture.
    """
    reader = open_gguf(file)
    architecture = metadata.from_gguf(reader, file)
    weights: Weights = {}
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":  # part of the architecture
            continue
        block = re.fullmatch(r"blk\.(\d+)\.(.+)", tensor.name)
        name = GGUF_NAMES.get(block[2] if block else tensor.name)
        if name is None:
            raise InputError(f"{file}: holds a tensor {tensor.name}, which Llama's architecture does not have. Use another checkpoint.")
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        weights[f"layers.{block[1]}.{name}" if block else name] = torch.from_numpy(np.array(values)).bfloat16()
    check({name: tuple(tensor.shape) for name, tensor in weights.items()}, shapes(architecture), file)
    return architecture, weights


def open_gguf(file: Path) -> GGUFReader:
    """The metadata and memory-mapped tensors of a GGUF file.

    :raises InputError: if the file is missing or is no complete GGUF file.
    """
    try:
        return GGUFReader(file)
    except FileNotFoundError as error:
        raise InputError(f"{file}: there is no such file. See base.checkpoint in params.yaml.") from error
    except (ValueError, IndexError, OSError) as error:
        raise InputError(f"{file}: is no complete GGUF file ({error}). Download it again, or see base.checkpoint in params.yaml.") from error


def check(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], source: Path) -> None:
    """Compare the shapes that ``source`` holds with those that its architecture has.

    :raises InputError: if a weight is missing, left over or of another shape.
    """
    for problem, names in (("lacks", expected.keys() - found.keys()), ("holds what its dimensions leave no place for:", found.keys() - expected.keys())):
        if names:
            raise InputError(f"{source}: {problem} {len(names)} tensors, for example {min(names)}. Is it complete, and do its metadata belong to it?")
    for name, shape in expected.items():
        if found[name] != shape:
            raise InputError(f"{source}: {name} has the shape {list(found[name])}, and its metadata say {list(shape)}. Do they belong together? Download both again.")


def to_hugging_face(weights: Weights, architecture: Architecture) -> Weights:
    """Rename and permute from torchtune to Hugging Face."""
    return dict(tune_to_hf(weights, *_heads(architecture)))


def from_hugging_face(weights: Weights, architecture: Architecture) -> Weights:
    """Rename and permute from Hugging Face to torchtune."""
    return dict(hf_to_tune(weights, *_heads(architecture)))


def _heads(architecture: Architecture) -> tuple[int, int, int, int]:
    return architecture.num_attention_heads, architecture.num_key_value_heads, architecture.hidden_size, architecture.head_dim


def write_folder(folder: Path, architecture: Architecture, weights: Weights) -> None:
    """Write ``config.json`` and ``model.safetensors`` as Hugging Face's transformers read them, from weights in torchtune's layout."""
    write_hugging_face(folder, architecture, to_hugging_face(weights, architecture))


def write_hugging_face(folder: Path, architecture: Architecture, weights: Weights) -> None:
    """The same from weights that are in Hugging Face's layout already."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(metadata.config(architecture), indent=2) + "\n", encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def load_model(folder: Path, lora: Lora, device: torch.device, seed: int, precision: Literal["bf16", "fp32"] = "bf16") -> tuple[Architecture, TransformerDecoder]:
    """The base model of ``folder`` (frozen, in ``precision``) with fresh LoRA layers (float32, trainable) on ``device``.

    :raises InputError: if the folder is incomplete.
    """
    try:
        architecture = metadata.from_config(folder / "config.json")
        theirs = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder}: is no complete base model ({error}). Run `dvc repro base`.") from error
    ours = from_hugging_face(theirs, architecture)
    model = build(architecture, lora)
    model.to_empty(device="cpu")
    torch.manual_seed(seed)
    for module in model.modules():
        if hasattr(module, "rope_init"):
            module.rope_init()
        if hasattr(module, "initialize_parameters"):
            module.initialize_parameters()
    missing = [name for name, _ in model.named_parameters() if "lora_" not in name and name not in ours]
    if missing:
        raise InputError(f"{folder}: lacks {len(missing)} tensors, for example {missing[0]}. Run `dvc repro -f base`.")
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "lora_" in name
        if not parameter.requires_grad:
            parameter.data = ours.pop(name).float() if precision == "fp32" or name.endswith("scale") else ours.pop(name)  # norms are computed in float32
    if ours:
        raise InputError(f"{folder}: holds {len(ours)} tensors that the architecture does not have, for example {min(ours)}. Run `dvc repro base`.")
    return architecture, model.to(device)
