"""``sft`` and ``dpo`` against TRL and PEFT: ``nox -s benchmark_training``, or ``python -m benchmarks.training <the peer's python>``.

The same model, samples (35 to 130 tokens, half of them answer), LoRA matrices, precision, batch size and number of steps; each run in a process of
its own, on the same cores, one after the other in turns, and the medians count. A run ends with a written adapter; loading the model is not timed,
computing the reference is. TRL runs without recomputing activations, which it does by default but Plumbline does not: so it is faster. For DPO there
are two peers: TRL's default, which evaluates the reference at every step, and TRL with ``precompute_ref_log_probs``. The last two lines are JSON;
``ratio`` is the peer's time over ours. Where other work disturbs the machine, the CPU seconds beside each time say how far to trust it.

``share_of_limit`` is the share of the measured bf16 peak that the necessary products make up. For a token, with N weights in the blocks' matrices, L
in their LoRA matrices, width d, vocabulary v and n tokens before it:

    4 N + 6 L + 12 n d · layers    forward, and backward through activations; LoRA's own gradients; attention
    + 4 v d                        for those that the loss looks at

and for DPO once 2 N + 4 n d · layers + 2 v d for the reference. Padding and casts are not counted: they are what is lost.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.generation import SHIPPED, peak_flops
from stages.core import params
from stages.core.runtime import Runtime
from stages.corpora.truthsocial import read
from stages.llm.tokenizer import tokenizer_of
from stages.models.base import convert, resolve
from stages.models.dpo import Preference
from stages.models.sft import Supervised
from stages.tuning import weights
from stages.tuning.architecture import Architecture, Lora
from stages.tuning.data import Pair, Sample, answer_sample
from stages.tuning.loop import Run, Schedule, Tuning, precision, train
from stages.tuning.metadata import from_config

LORA = Lora(rank=16, alpha=32.0, dropout=0.0, attention=("q", "v"), mlp=True)
TARGETS = ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]
SHORTEST, LONGEST = 35, 130
BATCH, RATE, DECAY, CLIP, BETA, SEED = 8, 3e-4, 0.01, 1.0, 0.1, 1
EPOCHS = {"sft": 1, "dpo": 3}
CPU = torch.device("cpu")

Job = dict[str, Any]


def samples(base: Path, n: int) -> list[Sample]:
    """``n`` posts of the sample as answers to an instruction."""
    posts = [record.text for record in read(Path("data/sample/truthsocial/truths.tsv")) if record.text]
    with tokenizer_of(base / "model.gguf") as tokenizer:
        found = [answer_sample(tokenizer, str(i), f"Write a post that begins with: {' '.join(post.split()[:3])}", post, 512) for i, post in enumerate(posts)]
    fitting = [sample for sample in found if SHORTEST <= len(sample.tokens) <= LONGEST]
    return fitting[:n]


def pairs(found: Sequence[Sample]) -> list[Pair]:
    """Each sample's answer preferred to the answer of the one before it."""
    others = [*found[-1:], *found[:-1]]
    rejected = [Sample(a.id, (*a.tokens[: a.start], *b.tokens[b.start :])[:LONGEST], a.start, False) for a, b in zip(found, others, strict=True)]
    return [Pair(a.id, a, b) for a, b in zip(found, rejected, strict=True)]


def job(task: str, base: Path, found: Sequence[Sample], **changes: Any) -> Job:
    """What both sides are to do, as they read it from ``job.json``."""
    plain = {sample.id: {"id": sample.id, "tokens": list(sample.tokens), "start": sample.start} for sample in found}
    return {
        "task": task,
        "base": str(base),
        "samples": list(plain.values()),
        "pairs": [[vars(pair.chosen), vars(pair.rejected)] for pair in pairs(found)] if task == "dpo" else [],
        "epochs": EPOCHS[task],
        "batch_size": BATCH,
        "rank": LORA.rank,
        "alpha": LORA.alpha,
        "targets": TARGETS,
        "learning_rate": RATE,
        "weight_decay": DECAY,
        "clip": CLIP,
        "beta": BETA,
        "seed": SEED,
        "precision": "bf16",
        "weights": "float32",
        "checkpointing": False,
        "precompute": False,
    } | changes


def objective(work: Job, model: torch.nn.Module, micro_batch: int) -> Supervised | Preference:
    """The loss that the job asks for, over its samples."""
    if work["task"] == "sft":
        return Supervised(model, [_sample(entry) for entry in work["samples"]], [], CPU, micro_batch)
    both = [(_sample(chosen), _sample(rejected)) for chosen, rejected in work["pairs"]]
    return Preference(model, [Pair(chosen.id, chosen, rejected) for chosen, rejected in both], [], CPU, micro_batch, work["beta"])


def _sample(entry: dict[str, Any]) -> Sample:
    return Sample(entry["id"], tuple(entry["tokens"]), entry["start"], False)


def own(folder: Path) -> None:
    """Our side of a job, in this process."""
    work = json.loads((folder / "job.json").read_text())
    architecture, model = weights.load_model(Path(work["base"]), LORA, CPU, work["seed"], work["precision"])
    loss = objective(work, model, params.load("runtime", Runtime).micro_batch)
    steps = -(-len(loss) // work["batch_size"]) * work["epochs"]
    tuning = Tuning(lora=LORA, precision=work["precision"], held_out=0.0, max_length=512, clip=work["clip"], seed=work["seed"])
    schedule = Schedule(steps=steps, checkpoint_every=steps, batch_size=work["batch_size"], learning_rate=work["learning_rate"], weight_decay=work["weight_decay"], warmup=0.0)
    start, used = time.perf_counter(), time.process_time()
    if isinstance(loss, Preference):
        with precision(CPU, tuning.precision):
            loss.compute_reference()
    train(Run(model, architecture, folder, work["task"], CPU), loss, tuning, schedule)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak, "steps": last["step"], "loss": last["loss"]}))


def measure(command: Sequence[str], work: Job) -> dict[str, float]:
    """Run a side in a process of its own and return what it prints last."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "job.json").write_text(json.dumps(work))
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": folder}
        done = subprocess.run([*command, folder], check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def necessary_flops(work: Job, architecture: Architecture) -> float:
    """Floating-point operations of the job's necessary products; see above."""
    width, layers = architecture.hidden_size, architecture.num_hidden_layers
    values = width // architecture.num_attention_heads * architecture.num_key_value_heads
    shapes = {"q_proj": (width, width), "k_proj": (width, values), "v_proj": (width, values), "o_proj": (width, width)}
    shapes |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), (width, architecture.intermediate_size))
    blocks = layers * sum(a * b for a, b in shapes.values())
    lora = layers * sum(LORA.rank * sum(shapes[name]) for name in TARGETS)
    head = width * architecture.vocab_size
    texts = work["samples"] if work["task"] == "sft" else [text for pair in work["pairs"] for text in pair]
    trained = passed = 0.0
    for text in texts:
        n, answer = len(text["tokens"]), len(text["tokens"]) - text["start"]
        attention = 2 * n * n * width * layers  # forward: two products over n²/2 pairs
        trained += n * (4 * blocks + 6 * lora) + 3 * attention + 4 * answer * head
        passed += n * 2 * blocks + attention + 2 * answer * head
    return work["epochs"] * trained + (passed if work["task"] == "dpo" else 0.0)


def compare(task: str, base: Path, found: Sequence[Sample], peers: dict[str, tuple[str, dict[str, Any]]], rounds: int, python: str) -> dict[str, Any]:
    """Alternate between the peers and ours, and report on the medians."""
    work = job(task, base, found)
    commands = {name: ([python, "-m", "benchmarks.training_peer", "train"], work | changes) for name, (_, changes) in peers.items()}
    commands["own"] = ([sys.executable, "-m", "benchmarks.training", "--own"], work)
    outcomes: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for name in [*commands] * rounds:
        outcome = measure(*commands[name])
        outcomes[name].append(outcome)
        print(
            f"{task}, {name}: {outcome['steps']:.0f} steps in {outcome['seconds']:.1f} s ({outcome['cpu_seconds']:.1f} CPU s), "
            f"{outcome['peak_mib']:.0f} MiB, last loss {outcome['loss']:.3f}",
            file=sys.stderr,
        )
    seconds = {name: statistics.median(outcome["seconds"] for outcome in runs) for name, runs in outcomes.items()}
    memory = {name: max(outcome["peak_mib"] for outcome in runs) for name, runs in outcomes.items()}
    n = len(found) * work["epochs"]
    line = {
        "name": task,
        "ratio": round(seconds["peer"] / seconds["own"], 2),
        "value": round(n / seconds["own"], 2),
        "unit": "samples/s" if task == "sft" else "pairs/s",
        "peer": peers["peer"][0],
        "peer_value": round(n / seconds["peer"], 2),
        "peak_mib": round(memory["own"]),
        "peer_peak_mib": round(memory["peer"]),
        "share_of_limit": round(necessary_flops(work, from_config(base / "config.json")) / seconds["own"] / peak_flops(), 3),
    }
    for name in [name for name in peers if name != "peer"]:
        line |= {f"ratio_{name}": round(seconds[name] / seconds["own"], 2), f"{name}_value": round(n / seconds[name], 2), f"{name}_peak_mib": round(memory[name])}
    return line


def main() -> None:
    """Run both sides and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("python", nargs="?", help="of the environment with TRL and PEFT")
    parser.add_argument("--own", type=Path, help="do this folder's job and nothing else")
    parser.add_argument("--tasks", nargs="+", default=["sft", "dpo"])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    wish = parser.parse_args()
    if wish.own:
        own(wish.own)
        return
    peers: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
        "sft": {"peer": ("TRL SFTTrainer with PEFT", {})},
        "dpo": {"peer": ("TRL DPOTrainer with PEFT", {}), "precomputed": ("with precompute_ref_log_probs", {"precompute": True})},
    }
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        convert(resolve(SHIPPED), "BF16", base)
        lines = [compare(task, base, samples(base, wish.samples if task == "sft" else wish.pairs), peers[task], wish.rounds, wish.python) for task in wish.tasks]
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
