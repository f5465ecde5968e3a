"""How much memory training takes, and what would fit if there is too little."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import psutil
import torch

from stages.core.errors import InputError
from stages.core.runtime import Runtime
from stages.tuning.architecture import Architecture
from stages.tuning.losses import logits_at_once
from stages.tuning.settings import Tuning

GIB = 2**30
# Bytes that a layer keeps for the backward pass, per token: of each hidden value and of each value inside the feed-forward layer. Fitted to what
# autograd saves for models of several shapes; tests/tuning/test_memory.py holds the estimate against that.
KEPT = {"bf16": (22, 8), "fp32": (34, 16)}
OPTIMIZER = 16  # bytes for each trained weight: itself, its gradient, two moments
NF4 = 0.53  # bytes a weight, with its scales
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # numbers of malloc.h

Change: TypeAlias = tuple[str, dict[str, int | bool]]


@dataclass(frozen=True)
class Demand:
    """A training run, as far as its memory goes."""

    architecture: Architecture
    tuning: Tuning
    runtime: Runtime
    longest: int
    "tokens of the longest sample"
    at_once: int
    "samples that make up one of a micro-batch: 2 for pairs"
    device: str
    "cpu or cuda"

    def bytes(self) -> int:
        """An estimate for each device: base weights, adapter with its optimizer, activations of a micro-batch, a chunk of logits."""
        a = self.architecture
        d, f, q, kv = a.hidden_size, a.intermediate_size, a.head_dim * a.num_attention_heads, a.head_dim * a.num_key_value_heads
        full = 2 if self.tuning.precision == "bf16" else 4
        shapes = {"q": (d, q), "k": (d, kv), "v": (d, kv), "output": (q, d)}
        blocks = a.num_hidden_layers * (sum(m * n for m, n in shapes.values()) + 3 * d * f)
        embeddings = a.vocab_size * d * (1 if a.tie_word_embeddings else 2)
        weights = blocks * (NF4 if self.tuning.base_precision == "nf4" else full) + embeddings * full
        lora = self.tuning.lora
        targets = [sum(shapes[name]) for name in lora.attention if name in shapes] + ([3 * (d + f)] if lora.mlp else [])
        trained = OPTIMIZER * a.num_hidden_layers * lora.rank * sum(targets)
        shared = (weights + trained) / (self.runtime.processes if self.device == "cuda" else 1)
        return int(shared + (1 if self.device == "cuda" else self.runtime.processes) * (self._activations(full) + 3 * 4 * logits_at_once(a.vocab_size, self.device)))

    def _activations(self, full: int) -> float:
        a = self.architecture
        hidden, inner = KEPT[self.tuning.precision]
        layer = hidden * a.hidden_size + inner * a.intermediate_size
        layers = layer + a.num_hidden_layers * full * a.hidden_size if self.runtime.activation_checkpointing else layer * a.num_hidden_layers
        return self.runtime.micro_batch * self.at_once * self.longest * layers

    def smaller(self) -> Iterator[tuple[str, "Demand"]]:
        """Settings that need less, the least costly first: each alone, then all together."""
        sizes: list[int] = []
        while (size := (sizes[-1] if sizes else self.runtime.micro_batch) // 2) >= 1:
            sizes.append(size)
        micro: list[Change] = [(f"runtime.micro_batch={size}", {"micro_batch": size}) for size in sizes]
        checkpointing: list[Change] = [] if self.runtime.activation_checkpointing else [("runtime.activation_checkpointing=true", {"activation_checkpointing": True})]
        for text, change in [*micro, *checkpointing]:
            yield text, self._with(change)
        four_bit = self.device == "cuda" and self.tuning.base_precision == "full"
        quantised = replace(self, tuning=self.tuning.model_copy(update={"base_precision": "nf4"})) if four_bit else self
        if four_bit:
            yield "tuning.base_precision=nf4", quantised
        all_at_once = [*micro[-1:], *checkpointing]
        texts = [*(text for text, _ in all_at_once), *(["tuning.base_precision=nf4"] if four_bit else [])]
        yield " -S ".join(texts), quantised._with({key: value for _, change in all_at_once for key, value in change.items()})

    def _with(self, change: dict[str, int | bool]) -> "Demand":
        return replace(self, runtime=self.runtime.model_copy(update=change))


def free(device: torch.device) -> int:
    """Bytes that a run can still take on ``device``."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else int(psutil.virtual_memory().available)


def keep_freed() -> None:
    """Keep the memory that this process frees until it ends: the next step takes as much again.

    glibc hands large blocks back to the system at once, and to get them again costs a page fault for each 4 KiB, about a tenth of a step. Other C
    libraries are left as they are.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        _ = libc.mallopt(M_MMAP_THRESHOLD, GIB) or libc.mallopt(M_MMAP_THRESHOLD, GIB // 32)  # glibc before 2.35 takes no more
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def advice(demand: Demand, available: int) -> str:
    """What to change so that the run fits into ``available`` bytes."""
    for text, smaller in demand.smaller():
        if text and smaller.bytes() <= available:
            return f"About {smaller.bytes() / GIB:.1f} GiB would be needed with -S {text}."
    return "No setting makes it fit. Use a smaller base model, a lower tuning.max_length or a machine with more memory."


def require(demand: Demand, available: int) -> None:
    """Refuse a run before it starts.

    :raises InputError: if it needs more than ``available`` bytes, saying what would fit.
    """
    if demand.bytes() > available:
        raise InputError(f"training needs about {demand.bytes() / GIB:.1f} GiB of memory, and {available / GIB:.1f} GiB are free. {advice(demand, available)}")


@contextmanager
def explained(demand: Demand | None) -> Iterator[None]:
    """Turn the failure to get memory within the block into advice.

    :raises InputError: instead of torch's error.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        less = advice(demand, int(0.8 * demand.bytes())) if demand else "Lower runtime.micro_batch."  # the estimate was too low, so well below it
        raise InputError(f"the memory does not suffice ({str(error).splitlines()[0]}). {less} What was trained until the last checkpoint is kept.") from error
