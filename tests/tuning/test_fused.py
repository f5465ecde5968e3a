"""Expected values and gradients are those of torchtune's own modules."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchtune.models.llama3_1 import Llama3ScaledRoPE
from torchtune.modules import FeedForward, MultiHeadAttention, RMSNorm
from torchtune.modules.peft import LoRALinear

from stages.tuning import fused
from stages.tuning.fused import FusedAttention, FusedFeedForward, FusedLoRALinear, FusedRMSNorm, FusedRoPE, Texts

CPU = torch.device("cpu")


def lora(kind: type[LoRALinear], into: int = 12, out: int = 20, dropout: float = 0.0) -> LoRALinear:
    layer = kind(into, out, rank=3, alpha=5.0, dropout=dropout)
    layer.weight.requires_grad = False
    nn.init.normal_(layer.lora_b.weight)
    return layer


def norm(kind: type[RMSNorm]) -> RMSNorm:
    layer = kind(12, eps=1e-2)
    nn.init.normal_(layer.scale)
    layer.scale.requires_grad = False
    return layer


def mlp(kind: type[FeedForward]) -> FeedForward:
    return kind(gate_proj=nn.Linear(12, 7), down_proj=nn.Linear(7, 12), up_proj=nn.Linear(12, 7))


def attention(kind: type[MultiHeadAttention]) -> MultiHeadAttention:
    wide, narrow = (lambda: nn.Linear(12, 16, bias=False)), (lambda: nn.Linear(12, 8, bias=False))
    rope = (FusedRoPE if kind is FusedAttention else Llama3ScaledRoPE)(dim=4, max_seq_len=32)
    parts = {"q_proj": wide(), "k_proj": narrow(), "v_proj": narrow(), "output_proj": nn.Linear(16, 12, bias=False)}
    return kind(embed_dim=12, num_heads=4, num_kv_heads=2, head_dim=4, pos_embeddings=rope, max_seq_len=32, **parts)


def alike(make: Callable[..., nn.Module], theirs: type, ours: type) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    one, other = make(theirs), make(ours)
    other.load_state_dict(one.state_dict())
    return one, other


def values_and_gradients(layer: nn.Module, x: torch.Tensor, *arguments: object) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    found = layer(x, *arguments)
    (found * torch.linspace(-1, 2, found.numel()).view(found.shape)).sum().backward()
    return [found, x.grad, *(p.grad for p in layer.parameters() if p.requires_grad)]


@pytest.mark.parametrize(("make", "theirs", "ours"), [(lora, LoRALinear, FusedLoRALinear), (norm, RMSNorm, FusedRMSNorm), (mlp, FeedForward, FusedFeedForward)])
def test_values_and_gradients_are_torchtune_s(make: Callable[..., nn.Module], theirs: type, ours: type) -> None:
    one, other = alike(make, theirs, ours)
    x = torch.randn(2, 5, 12)
    for found, expected in zip(values_and_gradients(other, x), values_and_gradients(one, x), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("positions", [None, torch.tensor([[3, 0, 7, 1, 2], [0, 1, 2, 3, 4]])])
def test_rotations_are_torchtune_s(positions: torch.Tensor | None) -> None:
    x = torch.randn(2, 5, 3, 8)
    one, other = (kind(dim=8, max_seq_len=16) for kind in (Llama3ScaledRoPE, FusedRoPE))
    y, z = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, turned = one(y, input_pos=positions), other(z, input_pos=positions)
    torch.testing.assert_close(turned, expected)
    upstream = torch.randn_like(x)
    expected.backward(upstream)
    turned.backward(upstream)
    torch.testing.assert_close(z.grad, y.grad)


@pytest.mark.parametrize("short", [512, 0])
def test_texts_in_one_row_attend_as_if_each_stood_alone(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "SHORT", short)
    one, other = alike(attention, MultiHeadAttention, FusedAttention)
    texts = [torch.randn(1, n, 12) for n in (4, 9, 1)]
    row = torch.cat(texts, dim=1).requires_grad_()
    found = other(row, row, mask=Texts.of([4, 9, 1], CPU))
    alone = [text.clone().requires_grad_() for text in texts]
    expected = torch.cat([one(text, text) for text in alone], dim=1)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(found)
    found.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(row.grad, torch.cat([text.grad for text in alone], dim=1))
    for ours, theirs in zip(other.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_low_rank_updates_of_a_bf16_base_have_float32_gradients() -> None:
    layer = lora(FusedLoRALinear)
    layer.weight.data = layer.weight.data.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(torch.randn(3, 12))
        found.sum().backward()
    assert found.dtype == torch.bfloat16
    assert layer.lora_a.weight.grad.dtype == layer.lora_b.weight.grad.dtype == torch.float32


def test_dropout_is_kept() -> None:
    torch.manual_seed(0)
    layer = lora(FusedLoRALinear, dropout=0.5)
    x = torch.randn(3, 12)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    torch.testing.assert_close(layer(x), x @ layer.weight.T + 5 / 3 * (x @ layer.lora_a.weight.T) @ layer.lora_b.weight.T)
