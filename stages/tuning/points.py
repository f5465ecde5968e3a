"""A training run between two steps, as tensors and counts: everything that the next step depends on."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from stages.tuning import distributed

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Point:
    """A run between two steps. The order of the samples follows from the seed and ``step``, the learning rate from ``step``."""

    step: int
    "the last one done"
    seen: int
    "tokens until then"
    log: bytes
    "the lines of log.jsonl until then"
    tensors: Mapping[str, torch.Tensor]
    "weights, moments of AdamW and states of the random generators, on the CPU; empty for the start"


START = Point(0, 0, b"", {})

Parameters = Mapping[str, torch.nn.Parameter]


def capture(parameters: Parameters, optimizer: torch.optim.Optimizer, device: torch.device) -> dict[str, torch.Tensor]:
    """The tensors of a :class:`Point`; every process must ask for them."""
    found = {}
    for name, parameter in parameters.items():
        found[f"weight/{name}"] = parameter.detach()
        found |= {f"{moment}/{name}": optimizer.state[parameter][moment] for moment in MOMENTS}
    for kind, state in _random_states(device).items():
        found |= {f"random/{kind}/{i}": one for i, one in enumerate(distributed.gather(state.to(device)))}
    return {name: distributed.whole(tensor).to("cpu", copy=True).contiguous() for name, tensor in found.items()}


def put_back(point: Point, parameters: Parameters, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Bring a run that has not begun to ``point``."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(distributed.like(point.tensors[f"weight/{name}"], parameter))
            moments = {moment: distributed.like(point.tensors[f"{moment}/{name}"], parameter) for moment in MOMENTS}
            optimizer.state[parameter] = {"step": torch.tensor(float(point.step), device=device), **moments}
    mine = distributed.rank()
    if f"random/cpu/{mine}" in point.tensors:  # otherwise there were fewer processes: this one keeps its own seed
        torch.set_rng_state(point.tensors[f"random/cpu/{mine}"])
    if device.type == "cuda" and f"random/cuda/{mine}" in point.tensors:
        torch.cuda.set_rng_state(point.tensors[f"random/cuda/{mine}"], device)


def _random_states(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states
