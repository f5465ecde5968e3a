"""The training loop: LoRA matrices by AdamW, a log line a step, a checkpoint every so many steps."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import pydantic
import torch
from torchtune.modules import TransformerDecoder

from stages.errors import InputError
from stages.params import Section
from stages.progress import Progress
from stages.results import six_digits
from stages.tuning import formats
from stages.tuning.architecture import Architecture, Lora
from stages.tuning.data import batches


class Tuning(Section):
    """``params.yaml: tuning``, shared by every training stage."""

    lora: Lora
    precision: Literal["bf16", "fp32"]
    held_out: float = pydantic.Field(ge=0, lt=1)
    max_length: int = pydantic.Field(ge=16)
    clip: float = pydantic.Field(gt=0)
    seed: int


class Schedule(Section):
    """How long and how fast one training stage goes."""

    steps: int = pydantic.Field(ge=1)
    checkpoint_every: int = pydantic.Field(ge=1)
    batch_size: int = pydantic.Field(ge=1)
    learning_rate: float = pydantic.Field(gt=0)
    weight_decay: float = pydantic.Field(ge=0)
    warmup: float = pydantic.Field(ge=0, lt=1)


class Objective(Protocol):
    """What a training stage minimises, over its own samples."""

    def __len__(self) -> int:
        """How many samples there are to train on."""
        ...

    def parts(self, indices: Sequence[int]) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        """The loss of a batch in parts that fit the memory, and each part's share of the figures to log; both add up over the parts."""
        ...

    def tokens(self, indices: Sequence[int]) -> int:
        """How many tokens the model sees in a batch."""
        ...

    def held_out(self) -> dict[str, float]:
        """Figures on samples kept from training."""
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
    """``auto``: the GPU where there is one."""
    return torch.device("cuda" if wish == "auto" and torch.cuda.is_available() else "cpu" if wish == "auto" else wish)


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at ``step`` (from 0): a linear rise over the first ``warmup`` share of ``steps``, then a half cosine to 0."""
    rise = math.ceil(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def train(run: Run, objective: Objective, tuning: Tuning, schedule: Schedule, progress: Callable[[str, int], Progress] = Progress) -> None:
    """Train and write every checkpoint.

    :raises InputError: if the loss is not finite.
    """
    parameters = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, schedule.steps, schedule.warmup))
    order = batches(len(objective), schedule.batch_size, tuning.seed)
    bar, seen = progress(run.name, schedule.steps), 0
    run.model.train()
    with (run.folder / "log.jsonl").open("w", encoding="utf-8") as log:
        for step in range(1, schedule.steps + 1):
            indices = next(order)
            figures: dict[str, float] = {"loss": 0.0}
            with precision(run.device, tuning.precision):
                for loss, shares in objective.parts(indices):
                    loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
                    figures["loss"] += float(loss.detach())
                    for name, share in shares.items():
                        figures[name] = figures.get(name, 0.0) + share
            if not math.isfinite(figures["loss"]):
                raise InputError(f"{run.name}: step {step}: the loss is {figures['loss']}. Lower learning_rate, or set tuning.precision to fp32.")
            figures["gradient_norm"] = float(torch.nn.utils.clip_grad_norm_(parameters, tuning.clip))
            figures["learning_rate"] = float(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            seen += objective.tokens(indices)
            if step % schedule.checkpoint_every == 0 or step == schedule.steps:
                figures |= _checkpoint(run, objective, tuning, step)
            line = {"step": step, "tokens_seen": seen} | {name: six_digits(value) for name, value in figures.items()}
            log.write(json.dumps(line) + "\n")
            log.flush()
            bar.add(1, loss=f"{figures['loss']:.3f}")
    bar.close()


def _checkpoint(run: Run, objective: Objective, tuning: Tuning, step: int) -> dict[str, float]:
    folder = run.folder / f"step-{step:06d}"
    formats.write(folder, formats.lora_weights(run.model), run.architecture, tuning.lora, f"{run.name} step {step}")
    run.model.eval()
    with torch.no_grad(), precision(run.device, tuning.precision):
        kept_out = objective.held_out()
    run.model.train()
    return {f"held_out_{name}": value for name, value in kept_out.items()}


def precision(device: torch.device, name: Literal["bf16", "fp32"]) -> torch.autocast:
    """The context in which the model computes: matrix products in ``name``, LoRA matrices kept in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16")
