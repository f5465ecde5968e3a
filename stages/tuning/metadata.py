"""Dimensions as checkpoints describe them: the ``config.json`` of a Hugging Face folder, and the metadata of a GGUF file.

What this code would compute differently from the checkpoint's own is refused by name.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

from stages.core.errors import InputError
from stages.core.params import parse
from stages.tuning.architecture import Architecture, RopeScaling, rope_factors

DEFAULTS: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {"max_position_embeddings": 2048},
    "MistralForCausalLM": {"max_position_embeddings": 131072, "num_key_value_heads": 8, "sliding_window": 4096},
}
"The architectures of config.json that can be tuned, and what Hugging Face's transformers take a key for that is left out."
USUAL = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "partial_rotary_factor": 1, "rope_interleaved": False, "quantization_config": None}
"Keys of config.json with the only value that works here."
WORKING = "Checkpoints of Llama's architecture work: Llama 1 to 3, Mistral 7B, SmolLM2, TinyLlama and others whose config.json says LlamaForCausalLM or MistralForCausalLM"


def from_config(file: Path) -> Architecture:
    """The architecture that a ``config.json`` describes; keys that do not matter here are ignored.

    A sliding window (Mistral 7B v0.1) is read as the length of the context: up to there it changes nothing.

    :raises InputError: if it is another architecture, or lacks dimensions.
    :raises OSError, ValueError: if the file is missing or no JSON object.
    """
    config = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError(f"{file.name} is no object")
    names = config.get("architectures") or [config.get("model_type") or "unknown"]
    unknown = [name for name in names if name not in DEFAULTS]
    if unknown:
        raise InputError(f"{file}: is of architecture '{unknown[0]}', which cannot be tuned here. {WORKING}.")
    for key, usual in USUAL.items():
        if config.get(key, usual) not in (usual, None):
            raise InputError(f"{file}: {key} is {json.dumps(config[key])[:80]}, and only {json.dumps(usual)} works here. Use another checkpoint.")
    config = DEFAULTS[names[0]] | config
    found = {key: config[key] for key in Architecture.model_fields if key in config}
    found.setdefault("num_key_value_heads", config.get("num_attention_heads"))
    found = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False} | found | _rope(config, file)
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        found["max_position_embeddings"] = min(config["sliding_window"], config["max_position_embeddings"])
    return parse(Architecture, found, str(file))


def _rope(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """``rope_theta`` and ``rope_scaling``; transformers 5 writes both as ``rope_parameters``."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    theta = config.get("rope_theta", rope.get("rope_theta", 10000.0))
    if kind == "default":
        return {"rope_theta": theta, "rope_scaling": None}
    if kind != "llama3":
        raise InputError(f"{file}: scales its rotary embedding by the method '{kind}'; only 'llama3' works here, or none. Use another checkpoint.")
    names = [name for name in RopeScaling.model_fields if name in rope]
    return {"rope_theta": theta, "rope_scaling": {name: rope[name] for name in names} | {"rope_type": kind}}


def config(architecture: Architecture) -> dict[str, object]:
    """The content of a Hugging Face ``config.json``."""
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "bfloat16", **architecture.model_dump()}


def from_gguf(reader: GGUFReader, file: Path) -> Architecture:
    """The architecture of a GGUF checkpoint.

    :raises InputError: if it is not of Llama's architecture, or only a part of a checkpoint.
    """

    def value(key: str, default: object = None) -> Any:
        if key in reader.fields:
            return reader.fields[key].contents()
        if default is None:
            raise InputError(f"{file}: the metadata lack {key}. Convert the checkpoint again with a current llama.cpp.")
        return default

    name = value("general.architecture")
    if name != "llama":
        raise InputError(f"{file}: is of architecture '{name}', which cannot be tuned here. {WORKING}; in GGUF their architecture is 'llama'.")
    if value("split.count", 1) > 1:
        raise InputError(f"{file}: is one of {value('split.count')} parts. Merge them first with `llama-gguf-split --merge`, which comes with llama.cpp.")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    if "token_embd.weight" not in tensors:
        raise InputError(f"{file}: holds no token embeddings. Is it an adapter? Give the model itself.")
    if value("llama.rope.scaling.type", "none") != "none":
        raise InputError(f"{file}: scales its rotary embedding by the method '{value('llama.rope.scaling.type')}', which does not work here. Use another checkpoint.")
    heads, width, context = value("llama.attention.head_count"), value("llama.embedding_length"), value("llama.context_length")
    found = {
        "vocab_size": int(tensors["token_embd.weight"].shape[1]),
        "hidden_size": width,
        "intermediate_size": value("llama.feed_forward_length"),
        "num_hidden_layers": value("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": value("llama.attention.head_count_kv", heads),
        "head_dim": value("llama.attention.key_length", width // heads),
        "max_position_embeddings": min(context, value("llama.attention.sliding_window", context) or context),
        "rope_theta": value("llama.rope.freq_base", 10000.0),
        "rms_norm_eps": value("llama.attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in tensors,
    }
    for key in ("llama.attention.value_length", "llama.rope.dimension_count"):
        if value(key, found["head_dim"]) != found["head_dim"]:
            raise InputError(f"{file}: {key} is {value(key)} where the heads are {found['head_dim']} wide, which does not work here. Use another checkpoint.")
    architecture = parse(Architecture, found, str(file))
    if "rope_freqs.weight" not in tensors:
        return architecture
    return scaled_by(architecture, np.array(tensors["rope_freqs.weight"].data, dtype=np.float64), file)


def check_vocabulary(reader: GGUFReader, file: Path) -> None:
    """:raises InputError: if a GGUF checkpoint has no tokens, more or fewer than embeddings, or no chat template."""
    rows = next((int(tensor.shape[1]) for tensor in reader.tensors if tensor.name == "token_embd.weight"), 0)
    tokens = reader.fields.get("tokenizer.ggml.tokens")
    if rows and (tokens is None or len(tokens.data) != rows):
        have = len(tokens.data) if tokens else 0
        raise InputError(f"{file}: its tokenizer has {have} tokens and its embeddings are {rows}. Convert the checkpoint again, with the tokenizer that belongs to it.")
    if rows and "tokenizer.chat_template" not in reader.fields:
        raise InputError(f"{file}: holds no chat template. Use the variant that was tuned to answer.")


def scaled_by(architecture: Architecture, factors: np.ndarray, file: Path) -> Architecture:
    """``architecture`` with the scaling that gives these ``factors`` [head_dim / 2], all that a GGUF file keeps of it.

    Llama 3 divides a rotation of wavelength w by 1 / ((1 - s) / f + s), where f is the largest factor and s = (c / w - low) / (high - low) for
    an original context of c tokens. Scaling c, low and high alike changes nothing, so low = 1; high = 4 as in all of Meta's checkpoints. A
    rotation with 0 < s < 1 then gives c.

    :raises InputError: if no such scaling gives them.
    """
    base, size, largest = architecture.rope_theta, architecture.head_dim, float(factors.max())
    place = f"{file}: rope_freqs.weight"
    if factors.shape != (size // 2,):
        raise InputError(f"{place}: holds {factors.size} factors for heads {size} wide. Is the file damaged? Download it again.")
    if largest == 1:
        return architecture
    waves = 2 * math.pi * base ** (np.arange(0, size, 2) / size)
    with np.errstate(divide="ignore", invalid="ignore"):  # factors of 0 or infinity fail the comparison below
        s = (1 / factors - 1 / largest) / (1 - 1 / largest)
        between = (s > 1e-4) & (s < 1 - 1e-4)
        lengths = waves[between] * (1 + 3 * s[between])
    if not between.any():  # then every length that leaves the rotations with a factor of 1 alone, and no other, will do
        lengths = np.ceil(4 * waves[factors == 1].max(initial=1.0, keepdims=True))
    length = round(float(np.median(lengths)))
    scaling = {"factor": largest, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": length}
    scaled = parse(Architecture, architecture.model_dump() | {"rope_scaling": scaling}, place)
    if not np.allclose(rope_factors(scaled).numpy(), factors, rtol=1e-2):
        raise InputError(f"{place}: scales the rotary embedding otherwise than Llama 3 does, which does not work here. Use another checkpoint.")
    return scaled
