"""The base model where it is to be trained: on its device, as 4-bit weights, sharded, with activations kept or computed twice."""

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchao.dtypes.nf4tensor import to_nf4
from torchtune.modules import TransformerDecoder
from torchtune.modules.low_precision import FrozenNF4Linear
from torchtune.modules.peft import LoRALinear

from stages.core.errors import InputError
from stages.core.runtime import Runtime
from stages.tuning import distributed, memory, weights
from stages.tuning.architecture import Architecture
from stages.tuning.loop import pick_device
from stages.tuning.metadata import from_config
from stages.tuning.settings import Tuning

BLOCK, SCALES = 64, 256  # weights that share a scale, and scales that share one, in NF4 (Dettmers et al. 2023, arXiv 2305.14314)


class Text(Protocol):
    """A sample, as far as its length goes."""

    @property
    def tokens(self) -> Sequence[int]:
        """All that the model reads."""
        ...


@contextmanager
def prepared(
    base: Path, tuning: Tuning, runtime: Runtime, samples: Sequence[Text], at_once: int = 1, remedy: str = "Lower tuning.max_length."
) -> Iterator[tuple[Architecture, TransformerDecoder, torch.device]]:
    """The model of ``base`` with fresh LoRA layers, ready to be trained on ``samples``; ``at_once``: how many of them make up one of a micro-batch.

    ``remedy``: what to do about samples that are too long.

    :raises InputError: if the memory does not suffice, before or during the work; if the samples are longer than the model's context; if
        4-bit weights are asked for without a GPU.
    """
    device = pick_device(runtime.device)
    if tuning.base_precision == "nf4" and device.type != "cuda":
        raise InputError("params.yaml: tuning.base_precision: nf4 saves memory on GPUs, and there is none in use. Set it to full; runtime.micro_batch saves memory here.")
    longest = max(len(sample.tokens) for sample in samples)
    demand = None
    if (base / "config.json").exists():  # otherwise loading says what is wrong
        dimensions = from_config(base / "config.json")
        if longest > dimensions.max_position_embeddings:
            raise InputError(f"{base}: the model reads at most {dimensions.max_position_embeddings} tokens, and samples have up to {longest}. {remedy}")
        demand = memory.Demand(dimensions, tuning, runtime, longest, at_once, device.type)
        memory.require(demand, memory.free(device))
    with memory.explained(demand):
        loading = device if tuning.base_precision == "full" and distributed.size() == 1 else torch.device("cpu")
        architecture, model = weights.load_model(base, tuning.lora, loading, tuning.seed, tuning.precision)
        place(model, device, nf4=tuning.base_precision == "nf4", activation_checkpointing=runtime.activation_checkpointing)
        yield architecture, model, device


def place(model: TransformerDecoder, device: torch.device, *, nf4: bool = False, activation_checkpointing: bool = False) -> None:
    """Bring a loaded model into the form in which it is trained on ``device``."""
    if nf4:
        quantise(model, device)
    if activation_checkpointing:
        for layer in model.layers:
            layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
    if distributed.size() > 1:
        distributed.shard(model, device)
    else:
        model.to(device)


def quantise(model: TransformerDecoder, device: torch.device) -> None:
    """Turn the frozen matrices of all blocks into 4-bit NormalFloat on ``device``, one after the other."""
    for module in list(model.layers.modules()):
        if isinstance(module, LoRALinear):
            module.weight, module._quantize_base = _nf4(module.weight, device), True
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and not child.weight.requires_grad:
                frozen = FrozenNF4Linear(BLOCK, SCALES)
                frozen.in_features, frozen.out_features = child.in_features, child.out_features
                frozen.weight = _nf4(child.weight, device)
                setattr(module, name, frozen)


def _nf4(weight: torch.Tensor, device: torch.device) -> nn.Parameter:
    blocks = weight.numel() // BLOCK
    return nn.Parameter(to_nf4(weight.detach().to(device), BLOCK, math.gcd(blocks, SCALES)), requires_grad=False)
