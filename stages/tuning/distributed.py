"""One model trained by several processes: torch's FSDP2 shards its weights, each process computes a share of every batch.

Without a process group, everything here is that of a single process and costs nothing.
"""

import functools
import math
import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torchtune.modules import TransformerDecoder

from stages.tuning.architecture import hidden_states
from stages.tuning.fused import Texts

T = TypeVar("T")

PARENT = os.getppid()


def rank() -> int:
    """The number of this process, from 0; number 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def end_with_parent() -> None:
    """End this process if the stage that started it was killed, so that nothing trains on unseen."""
    if size() > 1 and os.getppid() != PARENT:
        raise SystemExit(f"process {rank()}: the stage that started it is gone")


def say(text: str) -> None:
    """Print once, however many processes there are."""
    if rank() == 0:
        print(text, flush=True)


def from_first(value: T) -> T:
    """What process 0 has: its ``value``, which is made of plain Python objects."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def shares(items: Sequence[T], most: int) -> Iterator[tuple[Sequence[T], int]]:
    """The groups of at most ``most`` neighbours that this process evaluates, each with its weight.

    All processes get equally many groups, because sharded weights are gathered by all of them at once. One that would have less to do
    evaluates the first group once more, with weight 0 instead of 1.
    """
    if not items:
        return
    length = min(most, math.ceil(len(items) / size()))
    groups = [items[first : first + length] for first in range(0, len(items), length)]
    for first in range(0, len(groups), size()):
        mine = first + rank()
        yield (groups[mine], 1) if mine < len(groups) else (groups[0], 0)


def add_up(values: torch.Tensor) -> torch.Tensor:
    """The sum of ``values`` over the processes."""
    if size() > 1:
        dist.all_reduce(values)
    return values


def gather(values: torch.Tensor) -> list[torch.Tensor]:
    """``values`` of each process, in the order of their numbers."""
    if size() == 1:
        return [values]
    found = [torch.empty_like(values) for _ in range(size())]
    dist.all_gather(found, values)
    return found


def shard(model: TransformerDecoder, device: torch.device) -> None:
    """Leave each process its part of every matrix, on ``device``; whole matrices exist for the layer that is computed."""
    mesh = init_device_mesh(device.type, (size(),))
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.hidden_states = functools.partial(hidden_states, model)
    register_fsdp_forward_method(model, "hidden_states")


def shard_alone(module: torch.nn.Module, device: torch.device) -> None:
    """Shard a ``module`` that is trained beside the model, if several processes train."""
    if size() > 1:
        fully_shard(module, mesh=init_device_mesh(device.type, (size(),)))


def states(model: TransformerDecoder, tokens: torch.Tensor, mask: Texts | None = None) -> torch.Tensor:
    """:func:`stages.tuning.architecture.hidden_states` of a model that may be sharded."""
    if isinstance(model, FSDPModule):
        return torch.as_tensor(model.hidden_states(tokens, mask))  # type: ignore[attr-defined]  # shard adds it
    return hidden_states(model, tokens, mask)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor that may be sharded; every process must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(found: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    """``found``, which every process has, sharded and placed as ``example`` is."""
    if isinstance(example, DTensor):
        return distribute_tensor(found.to(example.device), example.device_mesh, example.placements)
    return found.to(example.device)
