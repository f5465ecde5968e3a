import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from torchtune.modules import TransformerDecoder

from benchmarks.training import BETA, LORA, Job, job, objective, samples
from stages.models.dpo import Preference
from stages.tuning import formats, weights
from stages.tuning.architecture import Architecture
from stages.tuning.loop import Run, Schedule, Tuning, precision, train

CPU = torch.device("cpu")
Matrices = dict[str, torch.Tensor]
Ask = Callable[[str, Path, Mapping[str, Any]], None]


def loaded(base: Path, dtype: Literal["bf16", "fp32"]) -> tuple[Architecture, TransformerDecoder]:
    """SmolLM2 with an adapter that changes its answers; a fresh one has no gradient in its first matrices."""
    architecture, model = weights.load_model(base, LORA, CPU, 1, dtype)
    for name, parameter in model.named_parameters():
        if "lora_b" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return architecture, model


def in_peft_form(folder: Path, matrices: Matrices, architecture: Architecture) -> Matrices:
    formats.write(folder, matrices, architecture, LORA, "test")
    return load_file(folder / "adapter_model.safetensors")


def our_step(base: Path, folder: Path, work: Job) -> tuple[float, Matrices, torch.Tensor]:
    """Loss and gradients over all samples, in micro-batches of 2, and for pairs the reference's log-probabilities.

    Writes the adapter they are taken at to ``folder / "adapter"``.
    """
    architecture, model = loaded(base, work["precision"])
    in_peft_form(folder / "adapter", formats.lora_weights(model), architecture)
    loss, total = objective(work, model, 2), 0.0
    with precision(CPU, work["precision"]):
        if isinstance(loss, Preference):
            loss.compute_reference()
        for part, _ in loss.parts(range(len(loss))):
            part.backward()
            total += float(part.detach())
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert found.keys() == formats.lora_weights(model).keys()
    reference = torch.cat(list(loss.reference.values())) if isinstance(loss, Preference) else torch.zeros(0)
    return total, in_peft_form(folder / "ours", found, architecture), reference


def their_step(folder: Path, work: Job, ask_peer: Ask) -> tuple[float, Matrices]:
    """The same by TRL."""
    ask_peer("gradients", folder, work)
    return json.loads((folder / "loss.json").read_text()), load_file(folder / "gradients.safetensors")


def batch(task: str, base: Path, dtype: str) -> Job:
    return job(task, base, samples(base, 5), precision=dtype, epochs=1, batch_size=5, clip=0.0)


def whole(gradients: Matrices) -> torch.Tensor:
    return torch.cat([gradients[name].flatten() for name in sorted(gradients)])


def distance(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Of two gradients, as a share of the length of the second."""
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("task", ["sft", "dpo"])
def test_loss_and_gradients_equal_those_of_trl(base_model: Path, tmp_path: Path, ask_peer: Ask, task: str) -> None:
    work = batch(task, base_model, "fp32")
    loss, gradients, _ = our_step(base_model, tmp_path, work)
    their_loss, theirs = their_step(tmp_path, work, ask_peer)
    assert loss == pytest.approx(their_loss, rel=1e-4)
    assert gradients.keys() == theirs.keys() and len(theirs) == 30 * 5 * 2
    assert max(distance(gradients[name], gradient) for name, gradient in theirs.items()) < 1e-4


@pytest.mark.parametrize("task", ["sft", "dpo"])
def test_in_bf16_both_stay_close_to_fp32(base_model: Path, tmp_path: Path, ask_peer: Ask, task: str) -> None:
    # bf16 keeps 8 bits, so two orders of the same sums differ visibly. Plumbline also keeps the residual stream in bf16, TRL in fp32: hence the factor of 2.
    exact_loss, exact, exact_reference = our_step(base_model, tmp_path, batch(task, base_model, "fp32"))
    work = batch(task, base_model, "bf16")
    loss, gradients, reference = our_step(base_model, tmp_path, work)
    _, theirs = their_step(tmp_path, work, ask_peer)
    tolerance = 0.02 * exact_loss
    if task == "dpo":  # a margin is β times a sum of four log-probabilities, which stray alike; the loss moves half as far, and is the mean over the pairs
        strays = float((reference - exact_reference).square().mean().sqrt())
        assert strays < 0.5  # of about 230: the sum over 30 to 70 tokens
        tolerance = 3 * BETA * 4**0.5 * strays / 2 / len(work["pairs"]) ** 0.5
    assert abs(loss - exact_loss) < tolerance
    assert distance(whole(gradients), whole(exact)) < 2 * distance(whole(theirs), whole(exact)) < 0.2


def test_peft_answers_with_a_tuned_adapter_as_torch_does(base_model: Path, tmp_path: Path, ask_peer: Ask) -> None:
    work = job("sft", base_model, samples(base_model, 4), precision="fp32")
    architecture, model = weights.load_model(base_model, LORA, CPU, 1, "fp32")
    with torch.no_grad():
        before = [model(torch.tensor([entry["tokens"]]))[0] for entry in work["samples"]]
    tuning = Tuning(lora=LORA, precision="fp32", held_out=0.0, max_length=256, clip=1.0, seed=1)
    schedule = Schedule(steps=2, checkpoint_every=2, batch_size=4, learning_rate=0.003, weight_decay=0.0, warmup=0.0)
    train(Run(model, architecture, tmp_path, "test", CPU), objective(work, model, 4), tuning, schedule)
    (tmp_path / "adapter").symlink_to(tmp_path / "step-000002")
    ask_peer("logits", tmp_path, work)
    theirs = load_file(tmp_path / "logits.safetensors")
    model.eval()
    for i, entry in enumerate(work["samples"]):
        with torch.no_grad():
            ours = model(torch.tensor([entry["tokens"]]))[0]
        assert (ours - before[i]).abs().max() > 1  # the adapter does something
        assert (ours - theirs[str(i)]).abs().max() < 1e-3
