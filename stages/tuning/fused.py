"""torchtune's modules with fewer passes over the activations: same function, gradients derived by hand.

In bf16 most of a training step is spent on reading and writing activations between the matrix products. What torch's automatic
differentiation does in ten passes, each function here does in three or four. And texts of different lengths stand in one row without padding;
only attention pads them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchtune.models.llama3_1 import Llama3ScaledRoPE
from torchtune.modules import FeedForward, MultiHeadAttention, RMSNorm
from torchtune.modules.peft import LoRALinear

SHORT = 512  # tokens, up to which all attention weights of a text are held at once


class _LowRank(torch.autograd.Function):
    """y = x Wᵀ + s (x Aᵀ) Bᵀ with frozen W, in the precision of W; A and B may be more precise, and so are their gradients."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
        """``x`` [..., i], ``w`` [o, i], ``a`` [r, i], ``b`` [o, r] -> [..., o]."""
        rows = x.reshape(-1, x.shape[-1]).to(w.dtype)
        a, b = a.to(w.dtype), b.to(w.dtype)
        narrow = rows @ a.T
        ctx.save_for_backward(rows, w, a, b, narrow)
        ctx.scale, ctx.shape, ctx.kind = scale, x.shape, x.dtype
        out: torch.Tensor = (rows @ w.T).addmm_(narrow, b.T, alpha=scale)
        return out.view(*x.shape[:-1], len(w))

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, None, torch.Tensor, torch.Tensor, None]:
        """``upstream`` [..., o] -> gradients of ``x``, ``a`` and ``b``."""
        rows, w, a, b, narrow = ctx.saved_tensors
        g = upstream[0].reshape(-1, len(w)).to(w.dtype)
        through = g @ b
        of_x = (g @ w).addmm_(through, a, alpha=ctx.scale).view(ctx.shape).to(ctx.kind) if ctx.needs_input_grad[0] else None
        return of_x, None, (through.T @ rows).float() * ctx.scale, (g.T @ narrow).float() * ctx.scale, None


class _Normalise(torch.autograd.Function):
    """y = s x / r with r² = mean(x²) + ε over the last dimension and a frozen scale s, computed in float32."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``x`` [..., d], ``scale`` [d] -> [..., d] of the type of ``x``."""
        wide = x.float()
        inverse = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, scale, inverse)
        found: torch.Tensor = (wide * inverse).mul_(scale).to(x.dtype)
        return found

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """With u = x / r and h = s · upstream, the gradient of ``x`` is (h - u mean(h u)) / r."""
        x, scale, inverse = ctx.saved_tensors
        unit, h = x * inverse, upstream[0] * scale
        return h.sub_(unit * (h * unit).mean(dim=-1, keepdim=True)).mul_(inverse).to(x.dtype), None, None


class _Rotate(torch.autograd.Function):
    """Each pair of neighbours of ``x`` as a complex number, times ``turn``; the gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
        """``x`` [b, s, n, h], ``turn`` [b or 1, s, 1, h / 2], of absolute value 1 -> [b, s, n, h]."""
        ctx.save_for_backward(turn)
        return _turned(x, turn)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        """``upstream`` [b, s, n, h] -> the same shape."""
        (turn,) = ctx.saved_tensors
        return _turned(upstream[0], turn.conj()), None


def _turned(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn).flatten(3).to(x.dtype)


class _Gate(torch.autograd.Function):
    """silu(g) · u, of which only g and u are kept."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """Both [..., f]."""
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``upstream`` [..., f] -> gradients of both."""
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(upstream[0] * up, gate), functional.silu(gate).mul_(upstream[0])


class _Attend(torch.autograd.Function):
    """o = p v with p = softmax(q kᵀ / √h + hidden). Scores are computed in float32, for large ones lose too much in bf16; all else as ``v`` is."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """``q`` [b, s, h], ``k`` and ``v`` [b, r, h], ``hidden`` [b or none, s, r]: 0 or -∞ -> [b, s, h]."""
        with torch.autocast("cpu", enabled=False):
            scores = torch.baddbmm(hidden, q.float(), k.float().transpose(1, 2), alpha=q.shape[-1] ** -0.5)
            p = scores.softmax(dim=-1).to(v.dtype)
            ctx.save_for_backward(q, k, v, p)
            return p @ v

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """``upstream`` g [b, s, h]; the gradient of the scores is p (g vᵀ - Σ_r p g vᵀ)."""
        (q, k, v, p), g = ctx.saved_tensors, upstream[0]
        of_scores = torch.ops.aten._softmax_backward_data(g @ v.transpose(1, 2), p, -1, p.dtype).mul_(q.shape[-1] ** -0.5)
        return of_scores @ k, of_scores.transpose(1, 2) @ q, p.transpose(1, 2) @ g, None


@dataclass(frozen=True)
class Texts:
    """Where texts stand that follow each other in one row; given to the model as its mask: each token sees those before it in its own text."""

    places: torch.Tensor
    "[t]: for each token, the number of its text times ``longest``, plus its position in it"
    count: int
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Texts":
        """Texts of these ``lengths``."""
        longest = max(lengths)
        return cls(torch.cat([torch.arange(n) + i * longest for i, n in enumerate(lengths)]).to(device), len(lengths), longest)

    @property
    def positions(self) -> torch.Tensor:
        """[1, t]: where each token stands in its text."""
        return (self.places % self.longest)[None]

    def apart(self, x: torch.Tensor) -> torch.Tensor:
        """[1, t, n, h] -> [count, n, longest, h], padded with zeros at the end."""
        padded = x.new_zeros(self.count * self.longest, x.shape[2] * x.shape[3]).index_copy(0, self.places, x.flatten(2)[0])
        return padded.view(self.count, self.longest, x.shape[2], x.shape[3]).transpose(1, 2)

    def joined(self, x: torch.Tensor) -> torch.Tensor:
        """[count, n, longest, h] -> [1, t, n · h]: the reverse."""
        return x.transpose(1, 2).reshape(self.count * self.longest, -1).index_select(0, self.places)[None]

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """What each token sees: ``q`` [1, t, n, h], ``k`` and ``v`` [1, t, m, h] -> [1, t, n · h]."""
        return self.joined(attention(self.apart(q), self.apart(k), self.apart(v)))


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sees: torch.Tensor | None = None) -> torch.Tensor:
    """Values that each token sees: ``q`` [b, n, s, h], ``k`` and ``v`` [b, m, r, h], which n / m neighbouring heads share -> [b, n, s, h].

    ``sees`` [b, s, r] says which, at least one each; without it those before a token and its own. On a CPU the backward pass of torch's fused attention
    takes several times as long as plain products while texts are short.
    """
    (b, n, s, h), m = q.shape, k.shape[1]
    if q.device.type != "cpu" or s > SHORT:
        k, v = (each.repeat_interleave(n // m, dim=1) for each in (k, v))
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=None if sees is None else sees[:, None], is_causal=sees is None)
    if sees is None:
        hidden = torch.full((s, s), -math.inf).triu(1).repeat(n // m, 1)
    else:
        hidden = torch.zeros(sees.shape).masked_fill_(~sees, -math.inf).repeat(1, n // m, 1).repeat_interleave(m, dim=0)
    found: torch.Tensor = _Attend.apply(q.reshape(b * m, -1, h), k.flatten(0, 1), v.flatten(0, 1), hidden)  # type: ignore[no-untyped-call]
    return found.view(b, n, s, h)


class FusedAttention(MultiHeadAttention):  # type: ignore[misc]  # torchtune is not typed
    """:class:`torchtune.modules.MultiHeadAttention` of a token with those before it; the mask may be :class:`Texts`."""

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None, *, mask: torch.Tensor | Texts | None = None, input_pos: torch.Tensor | None = None) -> torch.Tensor:
        """``x`` and ``y``, which are the same, [b, s, d] -> [b, s, d]."""
        if not isinstance(mask, Texts):
            return torch.as_tensor(super().forward(x, y, mask=mask, input_pos=input_pos))
        q, k, v = (project(x).view(1, x.shape[1], -1, self.head_dim) for project in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (self.pos_embeddings(each, input_pos=mask.positions) for each in (q, k))
        return torch.as_tensor(self.output_proj(mask.attend(q, k, v)))


class FusedLoRALinear(LoRALinear):  # type: ignore[misc]  # torchtune is not typed
    """:class:`torchtune.modules.peft.LoRALinear`; a 4-bit base and dropout take its own path."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., i] -> [..., o]."""
        if self.disabled or self._quantize_base or (self.training and isinstance(self.dropout, nn.Dropout)):
            return torch.as_tensor(super().forward(x))
        return torch.as_tensor(_LowRank.apply(x, self.weight, self.lora_a.weight, self.lora_b.weight, self.alpha / self.rank))  # type: ignore[no-untyped-call]


class FusedRMSNorm(RMSNorm):  # type: ignore[misc]  # torchtune is not typed
    """:class:`torchtune.modules.RMSNorm` with a frozen scale."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., d] -> [..., d]."""
        return torch.as_tensor(_Normalise.apply(x, self.scale, self.eps))  # type: ignore[no-untyped-call]


class FusedRoPE(Llama3ScaledRoPE):  # type: ignore[misc]  # torchtune is not typed
    """:class:`torchtune.models.llama3_1.Llama3ScaledRoPE`."""

    def forward(self, x: torch.Tensor, *, input_pos: torch.Tensor | None = None) -> torch.Tensor:
        """``x`` [b, s, n, h]; ``input_pos`` [b, s]: where each token stands, if not in its place."""
        found = self.cache[None, : x.shape[1]] if input_pos is None else self.cache[input_pos]
        return torch.as_tensor(_Rotate.apply(x, torch.view_as_complex(found.float())[:, :, None]))  # type: ignore[no-untyped-call]


class FusedFeedForward(FeedForward):  # type: ignore[misc]  # torchtune is not typed
    """:class:`torchtune.modules.FeedForward` with SiLU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., d] -> [..., d]."""
        return torch.as_tensor(self.w2(_Gate.apply(self.w1(x), self.w3(x))))  # type: ignore[no-untyped-call]
