"""The training loop: LoRA matrices by AdamW, a log line a step, a checkpoint every so many steps."""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import torch
from torchtune.modules import TransformerDecoder

from stages.core.device import device_for, multiplies_bf16
from stages.core.errors import InputError
from stages.core.progress import Progress
from stages.core.results import six_digits
from stages.tuning import distributed, formats, memory
from stages.tuning.architecture import Architecture
from stages.tuning.data import batches
from stages.tuning.points import START, Point, capture, put_back
from stages.tuning.resume import State
from stages.tuning.settings import Schedule, Tuning

Part: TypeAlias = tuple[torch.Tensor, Mapping[str, torch.Tensor | float]]


class Objective(Protocol):
    """What a training stage minimises, over its own samples."""

    def __len__(self) -> int:
        """How many samples there are to train on."""
        ...

    def parts(self, indices: Sequence[int]) -> Iterator[Part]:
        """The loss of a batch in parts that fit the memory, and each part's share of the figures to log; both add up over the parts.

        Where several processes train, each yields the parts that :func:`stages.tuning.distributed.shares` gives it, and they add up over all.
        """
        ...

    def tokens(self, indices: Sequence[int]) -> int:
        """How many tokens the model sees in a batch."""
        ...

    def held_out(self) -> dict[str, float]:
        """Figures on samples kept from training, the same in every process."""
        ...


@dataclass(frozen=True)
class Run:
    """Where a run trains and what it leaves behind."""

    model: TransformerDecoder
    architecture: Architecture
    folder: Path
    "is filled with step-000010/… and log.jsonl"
    name: str
    device: torch.device


def pick_device(wish: str) -> torch.device:
    """``auto``: the GPU where there is one; of several processes, each has its own GPU.

    :raises InputError: if there are too few of them, or the name is none that torch knows.
    """
    device = device_for(wish)
    if device.type == "cuda" and torch.cuda.device_count() < distributed.size():
        found = torch.cuda.device_count()
        raise InputError(f"params.yaml: runtime: {distributed.size()} processes cannot share {found} GPUs. Lower runtime.processes, or set runtime.device to cpu.")
    return torch.device("cuda", distributed.rank()) if device.type == "cuda" and distributed.size() > 1 else device


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at ``step`` (from 0): a linear rise over the first ``warmup`` share of ``steps``, then a half cosine to 0."""
    rise = math.ceil(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _tokens(name: str, total: int) -> Progress:
    return Progress(name, total, "tokens")


def train(run: Run, objective: Objective, tuning: Tuning, schedule: Schedule, progress: Callable[[str, int], Progress] = _tokens, state: State | None = None) -> None:
    """Train and write every checkpoint; with ``state``, go on where an earlier process was interrupted, and keep the state at every checkpoint.

    :raises InputError: if the loss or its gradient is not finite.
    """
    memory.keep_freed()
    parameters = {name: parameter for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True)
    torch.manual_seed(tuning.seed + distributed.rank())  # for dropout
    point = (state.read() if state else None) or START
    if point.step:
        put_back(point, parameters, optimizer, run.device)
        distributed.say(f"{run.name}: goes on after step {point.step} of {schedule.steps}")
    order = itertools.islice(batches(len(objective), schedule.batch_size, tuning.seed), point.step, None)
    log, seen = run.folder / "log.jsonl", point.seen
    log.touch()
    mean = objective.tokens(range(len(objective))) / len(objective)
    bar = progress(run.name, round(mean * schedule.batch_size * (schedule.steps - point.step))) if distributed.rank() == 0 else None
    run.model.train()
    for step in range(point.step + 1, schedule.steps + 1):
        distributed.end_with_parent()
        indices = next(order)
        figures = _gradients(run, objective, indices, tuning, list(parameters.values()))
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(figures[name]):
                raise InputError(f"{run.name}: step {step}: the {name.replace('_', ' ')} is {figures[name]}. Lower learning_rate, or set tuning.precision to fp32.")
        figures["learning_rate"] = schedule.learning_rate * rate_factor(step - 1, schedule.steps, schedule.warmup)
        optimizer.param_groups[0]["lr"] = figures["learning_rate"]
        optimizer.step()
        optimizer.zero_grad()
        tokens = objective.tokens(indices)
        seen += tokens
        at_checkpoint = step % schedule.checkpoint_every == 0 or step == schedule.steps
        if at_checkpoint:
            figures |= _checkpoint(run, objective, tuning, parameters, step)
        if bar:
            _write_line(log, {"step": step, "tokens_seen": seen} | {name: six_digits(value) for name, value in figures.items()})
            bar.add(tokens, step=f"{step}/{schedule.steps}", loss=f"{figures['loss']:.3f}")
        if at_checkpoint and state:
            state.write(Point(step, seen, log.read_bytes() if bar else b"", capture(parameters, optimizer, run.device)))
    if bar:
        bar.close()


def _gradients(run: Run, objective: Objective, indices: Sequence[int], tuning: Tuning, parameters: list[torch.nn.Parameter]) -> dict[str, float]:
    """Fill in the clipped gradients of a batch; the figures to log, read from the device once."""
    sums: dict[str, torch.Tensor | float] = {}
    with precision(run.device, tuning.precision):
        for loss, shares in objective.parts(indices):
            (loss * distributed.size()).backward()  # type: ignore[no-untyped-call]  # torch does not annotate it; FSDP takes the mean over the processes
            for name, share in {"loss": loss.detach(), **shares}.items():
                sums[name] = sums.get(name, 0.0) + share
    found = distributed.add_up(torch.stack([torch.as_tensor(value, dtype=torch.float64, device=run.device) for value in sums.values()]))
    norm = distributed.whole(torch.nn.utils.clip_grad_norm_(parameters, tuning.clip))
    return dict(zip([*sums, "gradient_norm"], torch.cat([found, norm.detach().double()[None]]).tolist(), strict=True))


def _checkpoint(run: Run, objective: Objective, tuning: Tuning, parameters: Mapping[str, torch.nn.Parameter], step: int) -> dict[str, float]:
    weights = {name: distributed.whole(parameter.detach()).float().cpu().contiguous() for name, parameter in parameters.items() if "lora_" in name}
    if distributed.rank() == 0:
        formats.write(run.folder / f"step-{step:06d}", weights, run.architecture, tuning.lora, f"{run.name} step {step}")
    run.model.eval()
    with torch.no_grad(), precision(run.device, tuning.precision):
        kept_out = objective.held_out()
    run.model.train()
    return {f"held_out_{name}": value for name, value in kept_out.items()}


def _write_line(log: Path, line: dict[str, float]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def affordable(tuning: Tuning, wish: str) -> Tuning:
    """``tuning`` as the device that :func:`pick_device` finds can compute it: with fp32 for bf16 on a CPU that has no such products, where torch takes six times as long for them.

    :raises InputError: see :func:`pick_device`.
    """
    if tuning.precision == "bf16" and pick_device(wish).type == "cpu" and not multiplies_bf16():
        distributed.say("this processor has no products of bf16 numbers: they are computed in fp32, which takes longer than bf16 elsewhere")
        return tuning.model_copy(update={"precision": "fp32"})
    return tuning


def precision(device: torch.device, name: Literal["bf16", "fp32"]) -> torch.autocast:
    """The context in which the model computes: matrix products in ``name``, LoRA matrices kept in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16")
