"""The dimensions of a Llama-architecture checkpoint, and the torchtune model they describe."""

import json
from pathlib import Path

import pydantic
import torch
from gguf import GGUFReader
from torch import nn
from torchtune.models.llama3_2._component_builders import lora_llama3_2
from torchtune.modules import TransformerDecoder

from stages.errors import InputError
from stages.params import Section, parse

PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "output": "output_proj"}


class Architecture(Section):
    """Everything about a checkpoint that is not a weight; ``config.json`` in Hugging Face's names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rope_theta: float
    rms_norm_eps: float
    tie_word_embeddings: bool


class Lora(Section):
    """Which matrices get a low-rank update, and how large (Hu et al. 2021, arXiv 2106.09685)."""

    rank: int = pydantic.Field(ge=1)
    alpha: float = pydantic.Field(gt=0)
    dropout: float = pydantic.Field(ge=0, lt=1)
    attention: tuple[str, ...]
    mlp: bool

    @pydantic.model_validator(mode="after")
    def _changes_something(self) -> "Lora":
        if not self.attention and not self.mlp:
            raise ValueError("name at least one attention projection, or set mlp to true")
        return self

    def attention_modules(self) -> list[str]:
        """The names that torchtune has for the chosen attention projections.

        :raises InputError: at a projection that does not exist.
        """
        unknown = [name for name in self.attention if name not in PROJECTIONS]
        if unknown:
            raise InputError(f"params.yaml: tuning.lora.attention: there is no projection {', '.join(unknown)}; choose among {', '.join(PROJECTIONS)}.")
        return [PROJECTIONS[name] for name in self.attention]


def from_gguf(reader: GGUFReader, file: Path) -> Architecture:
    """The architecture of a GGUF checkpoint.

    :raises InputError: if it is not of Llama's architecture, or scales its rotary embedding.
    """

    def value(key: str) -> object:
        if key not in reader.fields:
            raise InputError(f"{file}: the metadata lack {key}. Convert the checkpoint again with a current llama.cpp.")
        return reader.fields[key].contents()

    name = value("general.architecture")
    if name != "llama":
        raise InputError(f"{file}: is of architecture '{name}'. Only checkpoints of Llama's architecture can be tuned here.")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    if "token_embd.weight" not in tensors:
        raise InputError(f"{file}: holds no token embeddings. Is it an adapter? Give the model itself.")
    if "rope_freqs.weight" in tensors or "llama.rope.scaling.type" in reader.fields:
        raise InputError(f"{file}: scales its rotary embedding (Llama 3.1 and later), which is not supported yet. Use an earlier checkpoint.")
    heads = value("llama.attention.head_count")
    found = {
        "vocab_size": int(tensors["token_embd.weight"].shape[1]),
        "hidden_size": value("llama.embedding_length"),
        "intermediate_size": value("llama.feed_forward_length"),
        "num_hidden_layers": value("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": value("llama.attention.head_count_kv") if "llama.attention.head_count_kv" in reader.fields else heads,
        "max_position_embeddings": value("llama.context_length"),
        "rope_theta": value("llama.rope.freq_base") if "llama.rope.freq_base" in reader.fields else 10000.0,
        "rms_norm_eps": value("llama.attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in tensors,
    }
    return parse(Architecture, found, str(file))


def from_config(file: Path) -> Architecture:
    """The architecture that a ``config.json`` describes; further keys are ignored."""
    config = json.loads(file.read_text(encoding="utf-8"))
    return parse(Architecture, {key: config[key] for key in Architecture.model_fields if key in config}, str(file))


def config(architecture: Architecture) -> dict[str, object]:
    """The content of a Hugging Face ``config.json``."""
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "bfloat16", **architecture.model_dump()}


def build(architecture: Architecture, lora: Lora) -> TransformerDecoder:
    """A torchtune model of random weights with LoRA layers, on torch's ``meta`` device: shapes without memory."""
    with torch.device("meta"):
        return lora_llama3_2(
            lora_attn_modules=lora.attention_modules(),
            apply_lora_to_mlp=lora.mlp,
            vocab_size=architecture.vocab_size,
            num_layers=architecture.num_hidden_layers,
            num_heads=architecture.num_attention_heads,
            num_kv_heads=architecture.num_key_value_heads,
            embed_dim=architecture.hidden_size,
            max_seq_len=architecture.max_position_embeddings,
            intermediate_dim=architecture.intermediate_size,
            norm_eps=architecture.rms_norm_eps,
            rope_base=int(architecture.rope_theta),
            scale_factor=1,  # a factor of 1 leaves the rotary embedding as Llama 1 and 2 have it
            lora_rank=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            tie_word_embeddings=architecture.tie_word_embeddings,
        )


def hidden_states(model: TransformerDecoder, tokens: torch.Tensor, mask: torch.Tensor | None = None, positions: torch.Tensor | None = None) -> torch.Tensor:
    """States before the output layer, so that logits are only computed where a loss needs them: [b, s] -> [b, s, d].

    ``mask`` [b, s, s] says which tokens (last axis) each token looks at, ``positions`` [b, s] where it stands; by default all before it, one after the other.
    """
    h = model.tok_embeddings(tokens)
    for layer in model.layers:
        h = layer(h, mask=mask, input_pos=positions)
    norm: nn.Module = model.norm
    return torch.as_tensor(norm(h))
