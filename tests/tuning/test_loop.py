import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torchtune.modules import TransformerDecoder

from stages.core.errors import InputError
from stages.tuning.architecture import Lora
from stages.tuning.data import Sample, joined
from stages.tuning.loop import Run, Schedule, Tuning, affordable, pick_device, precision, rate_factor, train
from stages.tuning.losses import token_log_probabilities

CPU = torch.device("cpu")
LORA = Lora(rank=4, alpha=8.0, dropout=0.0, attention=("q", "k", "v", "output"), mlp=True)
TUNING = Tuning(lora=LORA, precision="fp32", held_out=0.0, max_length=64, clip=1.0, seed=1)
SAMPLES = [Sample(str(i), tuple(range(10 * i + 1, 10 * i + 9)), 3, False) for i in range(6)]


def schedule(**changes: Any) -> Schedule:
    return Schedule(**{"steps": 5, "checkpoint_every": 2, "batch_size": 4, "learning_rate": 5e-3, "weight_decay": 0.0, "warmup": 0.2} | changes)


class Objective:
    """Mean cross-entropy, in parts of one sample."""

    def __init__(self, model: TransformerDecoder, samples: Sequence[Sample] = SAMPLES, poison: int | None = None) -> None:
        self.model, self.samples, self.poison = model, samples, poison
        self.seen: list[list[int]] = []
        self.modes: list[bool] = []

    def __len__(self) -> int:
        return len(self.samples)

    def parts(self, indices: Sequence[int]) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        self.seen.append(list(indices))
        self.modes.append(self.model.training)
        for i in indices:
            values, _ = token_log_probabilities(self.model, joined([self.samples[i]], CPU))
            factor = math.nan if len(self.seen) == self.poison else 1.0
            yield -values.mean() / len(indices) * factor, {"share": 1 / len(indices)}

    def tokens(self, indices: Sequence[int]) -> int:
        return sum(len(self.samples[i].tokens) for i in indices)

    def held_out(self) -> dict[str, float]:
        self.modes.append(self.model.training)
        return {"loss": 1.25}


def start(tiny: Callable[..., Any], tmp_path: Path, name: str = "run", lora: Lora = LORA) -> Run:
    architecture, model = tiny(lora=lora, filled=False)
    (tmp_path / name).mkdir()
    return Run(model, architecture, tmp_path / name, "left-posts", CPU)


def log(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]


def adapter(run: Run, step: int) -> dict[str, torch.Tensor]:
    return load_file(run.folder / f"step-{step:06d}" / "adapter_model.safetensors")


def test_the_rate_rises_to_its_peak_and_falls_to_nearly_nothing() -> None:
    factors = [rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert max(factors) == factors[9] == factors[10] == 1
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[10:]))
    assert factors[55] == pytest.approx(0.5)  # half-way between 10 and 100
    assert 0 < factors[-1] < 0.001
    assert rate_factor(100, 100, 0.1) == pytest.approx(0)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 0.9), (2, 0.5), (3, 0.99)])
def test_short_runs_never_stand_still(steps: int, warmup: float) -> None:
    assert all(0 < rate_factor(step, steps, warmup) <= 1 for step in range(steps))


def test_without_warmup_the_first_step_has_the_full_rate() -> None:
    assert rate_factor(0, 10, 0.0) == 1


def test_training_on_one_sample_learns_it(tiny: Callable[..., Any], tmp_path: Path) -> None:
    run = start(tiny, tmp_path)
    train(run, Objective(run.model, SAMPLES[:1]), TUNING, schedule(steps=25, batch_size=1))
    losses = [line["loss"] for line in log(run)]
    assert losses[-1] < 0.5 * losses[0]


def test_only_lora_matrices_change(tiny: Callable[..., Any], tmp_path: Path) -> None:
    run = start(tiny, tmp_path)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    train(run, Objective(run.model), TUNING, schedule())
    changed = {name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if "lora_" in name}


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tiny: Callable[..., Any], tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run = start(tiny, tmp_path, name)
        train(run, Objective(run.model), TUNING.model_copy(update={"seed": seed}), schedule())
        found.append((adapter(run, 5), (run.folder / "log.jsonl").read_text(), (run.folder / "step-000005/adapter.gguf").read_bytes()))
    (first, first_log, first_file), (same, same_log, same_file), (other, _, _) = found
    assert first_log == same_log and first_file == same_file
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_the_first_step_is_adam_w_s(tiny: Callable[..., Any], tmp_path: Path) -> None:
    # after one step Adam's mean over the root of its square is the gradient's sign: every matrix with a gradient moves by the learning rate
    run = start(tiny, tmp_path)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters() if "lora_b" in name}
    train(run, Objective(run.model), TUNING, schedule(steps=1, warmup=0.0, learning_rate=1e-3))
    for name, p in run.model.named_parameters():
        if name in before:
            assert (p - before[name]).abs().median().item() == pytest.approx(1e-3, rel=0.01)


def test_gradients_do_not_pile_up_over_the_steps(tiny: Callable[..., Any], tmp_path: Path) -> None:
    run = start(tiny, tmp_path)
    train(run, Objective(run.model, SAMPLES[:1]), TUNING, schedule(steps=3, batch_size=1, learning_rate=1e-9))  # as good as standing still
    first, *others = (line["gradient_norm"] for line in log(run))
    assert others == pytest.approx([first] * 2, rel=1e-3)


def test_checkpoints_come_every_so_many_steps_and_at_the_end(tiny: Callable[..., Any], tmp_path: Path) -> None:
    run = start(tiny, tmp_path)
    train(run, Objective(run.model), TUNING, schedule(steps=5, checkpoint_every=2))
    assert sorted(path.name for path in run.folder.iterdir()) == ["log.jsonl", "step-000002", "step-000004", "step-000005"]
    for step in (2, 4, 5):
        files = {path.name for path in (run.folder / f"step-{step:06d}").iterdir()}
        assert files == {"adapter.gguf", "adapter_config.json", "adapter_model.safetensors"}
    early, late = adapter(run, 2), adapter(run, 4)
    assert any(not torch.equal(early[key], late[key]) for key in early)


def test_a_run_that_ends_on_a_checkpoint_writes_it_once(tiny: Callable[..., Any], tmp_path: Path) -> None:
    run = start(tiny, tmp_path)
    train(run, Objective(run.model), TUNING, schedule(steps=4, checkpoint_every=4))
    assert [path.name for path in run.folder.glob("step-*")] == ["step-000004"]


def test_the_log_has_a_line_a_step_with_all_figures(tiny: Callable[..., Any], tmp_path: Path) -> None:
    run = start(tiny, tmp_path)
    train(run, Objective(run.model), TUNING, schedule())
    lines = log(run)
    always = {"step", "tokens_seen", "loss", "share", "gradient_norm", "learning_rate"}
    assert [set(line) for line in lines] == [always, always | {"held_out_loss"}] * 2 + [always | {"held_out_loss"}]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["tokens_seen"] for line in lines] == [32 * step for step in range(1, 6)]  # 4 samples of 8 tokens a step
    assert [line["share"] for line in lines] == [1.0] * 5  # shares add up over the parts
    assert [line["learning_rate"] for line in lines] == pytest.approx([5e-3 * rate_factor(step, 5, 0.2) for step in range(5)], rel=1e-5)
    assert all(line["gradient_norm"] > 0 for line in lines)
    assert lines[1]["held_out_loss"] == 1.25


def test_the_logged_loss_is_that_of_the_whole_batch(tiny: Callable[..., Any], tmp_path: Path) -> None:
    run = start(tiny, tmp_path)
    with torch.no_grad():
        expected = [-token_log_probabilities(run.model, joined([sample], CPU))[0].mean().item() for sample in SAMPLES]
    objective = Objective(run.model)
    train(run, objective, TUNING, schedule(steps=1))
    assert log(run)[0]["loss"] == pytest.approx(sum(expected[i] for i in objective.seen[0]) / 4, rel=1e-5)


def test_dropout_is_on_in_training_and_off_for_held_out_samples(tiny: Callable[..., Any], tmp_path: Path) -> None:
    run = start(tiny, tmp_path)
    objective = Objective(run.model)
    train(run, objective, TUNING, schedule(steps=3, checkpoint_every=2))
    assert objective.modes == [True, True, False, True, False]


@pytest.mark.parametrize("poison", [1, 4])
def test_a_loss_that_is_not_finite_stops_with_the_run_and_step(tiny: Callable[..., Any], tmp_path: Path, poison: int) -> None:
    run = start(tiny, tmp_path)
    with pytest.raises(InputError, match=f"left-posts: step {poison}: the loss is nan.*learning_rate"):
        train(run, Objective(run.model, poison=poison), TUNING, schedule())
    assert len(log(run)) == poison - 1
    assert (run.folder / "step-000002").exists() == (poison > 2)
    assert all(p.isfinite().all() for p in run.model.parameters())


@pytest.mark.parametrize("name", ["bf16", "fp32"])
def test_a_base_in_the_set_precision_trains(tiny: Callable[..., Any], tmp_path: Path, name: str) -> None:
    architecture, model = tiny(lora=LORA, filled=False, dtype=torch.bfloat16 if name == "bf16" else torch.float32)
    (tmp_path / "run").mkdir()
    run = Run(model, architecture, tmp_path / "run", "left-posts", CPU)
    train(run, Objective(model), TUNING.model_copy(update={"precision": name}), schedule(steps=10))
    losses = [line["loss"] for line in log(run)]
    assert losses[-1] < losses[0]
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


def test_precision_decides_in_what_matrices_are_multiplied() -> None:
    for name, expected in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with precision(CPU, name):  # type: ignore[arg-type]
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


@pytest.mark.parametrize(("asked", "supported", "expected"), [("bf16", True, "bf16"), ("bf16", False, "fp32"), ("fp32", True, "fp32"), ("fp32", False, "fp32")])
def test_a_processor_without_bf16_products_computes_in_fp32_and_says_so(
    asked: str, supported: bool, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stages.tuning.loop.multiplies_bf16", lambda: supported)
    tuning = TUNING.model_copy(update={"precision": asked})
    assert affordable(tuning, "cpu") == TUNING.model_copy(update={"precision": expected})
    assert ("fp32" in capsys.readouterr().out) == (asked != expected)


def test_a_named_device_is_taken_as_it_is() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto") == torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("change", [{"steps": 0}, {"checkpoint_every": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"warmup": 1.0}, {"epochs": 3}])
def test_schedules_that_cannot_be_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        schedule(**change)
