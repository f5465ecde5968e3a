"""The dimensions of a Llama-architecture checkpoint, and the torchtune model they describe."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import pydantic
import torch
from torch import nn
from torchtune.modules import TiedLinear, TransformerDecoder, TransformerSelfAttentionLayer
from torchtune.modules.peft import disable_adapter

from stages.core.errors import InputError
from stages.core.params import Section
from stages.tuning.fused import FusedAttention, FusedFeedForward, FusedLoRALinear, FusedRMSNorm, FusedRoPE, Texts

Model: TypeAlias = TransformerDecoder
PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "output": "output_proj"}
MLP = ("w1", "w2", "w3")


class RopeScaling(Section):
    """How Llama 3.1 and later stretch slow rotations over a longer context; ``rope_scaling`` of ``config.json``.

    Rotations whose wavelength is above ``original_max_position_embeddings / low_freq_factor`` tokens become ``factor`` times slower, those below
    ``original_max_position_embeddings / high_freq_factor`` stay, and between the two it is interpolated.
    """

    rope_type: Literal["llama3"] = "llama3"
    factor: float = pydantic.Field(ge=1)
    low_freq_factor: float = pydantic.Field(gt=0)
    high_freq_factor: float = pydantic.Field(gt=0)
    original_max_position_embeddings: int = pydantic.Field(ge=1)


class Architecture(Section):
    """Everything about a checkpoint that is not a weight; ``config.json`` in Hugging Face's names."""

    vocab_size: int = pydantic.Field(ge=1)
    hidden_size: int = pydantic.Field(ge=1)
    intermediate_size: int = pydantic.Field(ge=1)
    num_hidden_layers: int = pydantic.Field(ge=1)
    num_attention_heads: int = pydantic.Field(ge=1)
    num_key_value_heads: int = pydantic.Field(ge=1)
    head_dim: int = pydantic.Field(ge=2, multiple_of=2)
    "width of an attention head; if not given, ``hidden_size / num_attention_heads``"
    max_position_embeddings: int = pydantic.Field(ge=1)
    rope_theta: float = pydantic.Field(gt=0)
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: float = pydantic.Field(gt=0)
    tie_word_embeddings: bool

    @pydantic.model_validator(mode="before")
    @classmethod
    def _usual_head(cls, values: dict[str, Any]) -> dict[str, Any]:
        width, heads = values.get("hidden_size"), values.get("num_attention_heads")
        if values.get("head_dim") is None and isinstance(width, int) and isinstance(heads, int) and heads > 0:
            return values | {"head_dim": width // heads}
        return values

    @pydantic.model_validator(mode="after")
    def _divisible(self) -> "Architecture":
        for name, total in (("num_key_value_heads", self.num_attention_heads), ("num_attention_heads", self.hidden_size)):
            if total % getattr(self, name):
                raise ValueError(f"{name} must divide {total}")
        return self


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


def rotary(architecture: Architecture, length: int, *, scaled: bool = True) -> FusedRoPE:
    """The rotary embedding of positions below ``length``; its ``theta`` [head_dim / 2] is the angle of each rotation a token."""
    scaling = architecture.rope_scaling if scaled else None
    how: dict[str, Any] = {"scale_factor": 1}  # a factor of 1 leaves the rotary embedding as Llama 1 and 2 have it
    if scaling:
        how = {"scale_factor": scaling.factor, "low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
        how |= {"old_context_len": scaling.original_max_position_embeddings}
    return FusedRoPE(dim=architecture.head_dim, max_seq_len=length, base=architecture.rope_theta, **how)


def rope_factors(architecture: Architecture) -> torch.Tensor:
    """By how much each rotation is slowed, [head_dim / 2] in float32: GGUF's ``rope_freqs.weight``."""
    return torch.as_tensor(rotary(architecture, 1, scaled=False).theta / rotary(architecture, 1).theta)


def build(architecture: Architecture, lora: Lora | None) -> TransformerDecoder:
    """A torchtune model of random weights with LoRA layers, on torch's ``meta`` device: shapes without memory."""
    a, targets = architecture, [*lora.attention_modules(), *(MLP if lora.mlp else ())] if lora else []
    width, queries, keys = a.hidden_size, a.num_attention_heads * a.head_dim, a.num_key_value_heads * a.head_dim

    def linear(name: str, into: int, out: int) -> nn.Module:
        if lora and name in targets:
            return FusedLoRALinear(into, out, rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout)
        return nn.Linear(into, out, bias=False)

    def layer() -> nn.Module:
        attention = FusedAttention(
            embed_dim=width,
            num_heads=a.num_attention_heads,
            num_kv_heads=a.num_key_value_heads,
            head_dim=a.head_dim,
            q_proj=linear("q_proj", width, queries),
            k_proj=linear("k_proj", width, keys),
            v_proj=linear("v_proj", width, keys),
            output_proj=linear("output_proj", queries, width),
            pos_embeddings=rope,
            max_seq_len=a.max_position_embeddings,
        )
        inner = a.intermediate_size
        mlp = FusedFeedForward(gate_proj=linear("w1", width, inner), down_proj=linear("w2", inner, width), up_proj=linear("w3", width, inner))
        return TransformerSelfAttentionLayer(attn=attention, mlp=mlp, sa_norm=FusedRMSNorm(width, eps=a.rms_norm_eps), mlp_norm=FusedRMSNorm(width, eps=a.rms_norm_eps))  # type: ignore[no-any-return]

    with torch.device("meta"):
        rope = rotary(a, a.max_position_embeddings)
        embeddings = nn.Embedding(a.vocab_size, width)
        return TransformerDecoder(
            tok_embeddings=embeddings,
            layers=nn.ModuleList(layer() for _ in range(a.num_hidden_layers)),
            max_seq_len=a.max_position_embeddings,
            num_heads=a.num_attention_heads,
            head_dim=a.head_dim,
            norm=FusedRMSNorm(width, eps=a.rms_norm_eps),
            output=TiedLinear(embeddings) if a.tie_word_embeddings else nn.Linear(width, a.vocab_size, bias=False),
        )


def shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by torchtune's name."""
    return {name: tuple(parameter.shape) for name, parameter in build(architecture, None).named_parameters()}


@contextmanager
def base_alone(model: Model) -> Iterator[None]:
    """Within the block the model answers as its base does, without its adapter, and no gradient is kept."""
    with disable_adapter(model), torch.no_grad():
        yield


def hidden_states(model: Model, tokens: torch.Tensor, mask: Texts | None = None) -> torch.Tensor:
    """States before the output layer, so that logits are only computed where a loss needs them: [b, s] -> [b, s, d].

    ``mask`` says which texts stand in the one row of ``tokens``; without it each row is a text.
    """
    h = model.tok_embeddings(tokens)
    for layer in model.layers:
        h = layer(h, mask=mask)
    norm: nn.Module = model.norm
    return torch.as_tensor(norm(h))
