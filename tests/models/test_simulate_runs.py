"""The stage as a process: killed and started again, and in several processes, with every term of the loss."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stages.surveys import interviews

ROOT = Path(__file__).parents[2]
PARAMETERS = """
simulate:
  alpha: 1.0
  beta: 2.0
  gamma: 0.5
  target: group
  groups: [party]
  shrinkage: 2.0
  distance: kl
  parity: party
  hidden: ideology
  panel: 4
  validation: 3
  steps: STEPS
  checkpoint_every: 4
  batch_size: 3
  learning_rate: 0.002
  weight_decay: 0.01
  warmup: 0.1
tuning:
  lora: {rank: 4, alpha: 8, dropout: DROPOUT, attention: [q, v], mlp: true}
  precision: PRECISION
  held_out: 0.3
  max_length: 64
  clip: 1.0
  seed: 1
runtime: {sequences: 4, micro_batch: 3, device: cpu, processes: PROCESSES}
"""
OPTIONS = ("too much", "about right", "too little")


def row(i: int, item: str) -> dict[str, Any]:
    party, order = ["left", "right"][i % 2], [[0, 1, 2], [2, 1, 0]][i // 2 % 2]
    said = {"id": f"{item}{i}", "respondent": f"r{i}", "item": item, "wording": "form", "persona": f"Number: {i}\nParty: {party}", "question": f"What of {item}?"}
    said |= {"options": [OPTIONS[place] for place in order], "order": order, "answer": order.index(2 if party == "left" else 0), "weight": 1.0}
    # of some panels nobody's ideology is known: their adversary must still take part in what the processes do together
    return said | {"split": "train", "synthetic": False, "party": party, "ideology": ["liberal", "conservative", None][i % 3] if item == "parks" else None}


@pytest.fixture
def workplace(tiny_base: Path, tmp_path: Path) -> Path:
    interviews.write(tmp_path / "train.parquet", [row(i, item) for item in ("parks", "roads") for i in range(48)], ["party", "ideology"], ["ideology"])
    (tmp_path / "prompts").mkdir()
    shutil.copy(ROOT / "prompts/simulate.yaml", tmp_path / "prompts/simulate.yaml")
    return tmp_path


def start(folder: Path, target: str, *, state: Path | None = None, steps: int = 5, processes: int = 1, dropout: float = 0.0, precision: str = "fp32") -> subprocess.Popen[str]:
    text = PARAMETERS
    for name, value in {"STEPS": steps, "PROCESSES": processes, "DROPOUT": dropout, "PRECISION": precision}.items():
        text = text.replace(name, str(value))
    (folder / "params.yaml").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | ({"PLUMBLINE_STATE": str(state)} if state else {})
    command = [sys.executable, "-m", "stages.models.simulate", "models/base", "train.parquet", f"models/{target}"]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def hashes(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_killed_run_ends_with_the_bits_of_an_unbroken_one(workplace: Path, tmp_path: Path) -> None:
    state, how = tmp_path / "state", {"steps": 24, "dropout": 0.1, "precision": "bf16"}
    killed = start(workplace, "opinion", state=state, **how)  # type: ignore[arg-type]  # of several types
    while not list(state.glob("training/*/*.safetensors")) and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (kept,) = state.glob("training/*/*.safetensors")
    assert 4 <= int(kept.name.partition("-")[0]) < 24
    assert not (workplace / "models/opinion").exists()
    again = start(workplace, "opinion", state=state, **how)  # type: ignore[arg-type]
    printed, message = again.communicate(timeout=300)
    assert again.returncode == 0, message
    assert "opinion: goes on after step" in printed
    unbroken = start(workplace, "other", state=tmp_path / "fresh", **how)  # type: ignore[arg-type]
    printed, message = unbroken.communicate(timeout=300)
    assert unbroken.returncode == 0, message
    assert "goes on" not in printed
    found, expected = (hashes(workplace / "models" / name) for name in ("opinion", "other"))
    assert len([name for name in found if name.endswith("adapter_model.safetensors")]) == 6
    same = {name for name in found if not name.endswith("adapter.gguf")}  # which holds the run's name
    assert {name: found[name] for name in same} == {name: expected[name] for name in same}


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one_does(workplace: Path) -> None:
    for processes in (1, 2):
        run = start(workplace, f"opinion-{processes}", processes=processes)
        printed, message = run.communicate(timeout=300)
        assert run.returncode == 0, message
        assert printed.count("of them are trained on") == 1  # said once
    one, two = (workplace / f"models/opinion-{n}" for n in (1, 2))
    assert len(log(one)) == 5
    assert {"performance", "fairness", "adversarial", "read", "held_out_performance"} <= log(one)[-1].keys()
    for line, other in zip(log(one), log(two), strict=True):
        assert line.keys() == other.keys()
        for name in line.keys() - {"read", "held_out_read"}:  # of scores around 0, whose sign rounding decides
            assert line[name] == pytest.approx(other[name], rel=2e-3, abs=1e-4), name
    weights, others = (load_file(folder / "step-000005/adapter_model.safetensors") for folder in (one, two))
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, atol=4e-4, rtol=1e-3)  # a step moves a weight by up to 2e-3
