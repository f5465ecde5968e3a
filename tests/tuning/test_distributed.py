import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stages.core import tables
from stages.tuning.distributed import shares

ROOT = Path(__file__).parent.parent.parent
PARAMETERS = """
dpo: {beta: 0.1, steps: 5, checkpoint_every: 3, batch_size: 3, learning_rate: 1e-3, weight_decay: 0.01, warmup: 0.1}
tuning:
  lora: {rank: 4, alpha: 8, dropout: 0.0, attention: [q, v], mlp: true}
  precision: fp32
  held_out: 0.3
  max_length: 64
  clip: 1.0
  seed: 1
runtime: {sequences: 4, micro_batch: 2, device: cpu, processes: N}
"""


@pytest.fixture
def workplace(real_tokens_base: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "models").mkdir(parents=True)
    (folder / "models/base").symlink_to(real_tokens_base)
    rows = [{"id": f"r{i}", "post_id": f"p{i}", "prompt": f"Who is number {i}?", "chosen": "We are, " * i + "all.", "rejected": f"They are {i}."} for i in range(12)]
    tables.write(folder / "pairs.parquet", rows, tables.PREFERENCES)
    return folder


def run(folder: Path, processes: int, target: str, **change: str) -> subprocess.CompletedProcess[str]:
    text = PARAMETERS.replace("N}", f"{processes}}}")
    for name, value in change.items():
        text = text.replace(name, value)
    (folder / "params.yaml").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "stages.models.dpo", "models/base", "pairs.parquet", f"models/adapters/{target}"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one_does(workplace: Path) -> None:
    for processes in (1, 2):
        done = run(workplace, processes, f"left-{processes}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("of them cut") == 1  # said once
        assert "torchao" not in done.stderr  # which warns of kernels that nothing uses
    one, two = (workplace / f"models/adapters/left-{n}" for n in (1, 2))
    for line, other in zip(log(one), log(two), strict=True):
        assert line.keys() == other.keys()
        for name in line.keys() - {"accuracy", "held_out_accuracy"}:  # of margins around 0, whose sign rounding decides
            assert line[name] == pytest.approx(other[name], rel=1e-3, abs=1e-4), name
    files = [sorted(str(file.relative_to(folder)) for file in folder.rglob("*.*")) for folder in (one, two)]
    assert files[0] == files[1]
    weights, others = (load_file(folder / "step-000005/adapter_model.safetensors") for folder in (one, two))
    assert {name: (w.shape, w.dtype) for name, w in weights.items()} == {name: (w.shape, w.dtype) for name, w in others.items()}
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, atol=2e-4, rtol=1e-3)  # a step moves a weight by up to 1e-3


def test_a_refusal_of_several_processes_is_one_message(workplace: Path) -> None:
    done = run(workplace, 2, "left-2", max_length="max_length: 16 #")
    assert done.returncode == 2
    assert done.stderr.count("leaves no room for an answer") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("n", "most", "size", "expected"),
    [(5, 2, 1, [[(2, 1), (2, 1), (1, 1)]]), (4, 8, 2, [[(2, 1)], [(2, 1)]]), (5, 2, 2, [[(2, 1), (1, 1)], [(2, 1), (2, 0)]]), (1, 4, 2, [[(1, 1)], [(1, 0)]])],
)
def test_every_process_has_as_many_groups_and_each_item_counts_once(n: int, most: int, size: int, expected: list[list[tuple[int, int]]], monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.tuning import distributed

    counted: list[int] = []
    for number in range(size):
        monkeypatch.setattr(distributed, "size", lambda: size)
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        mine = list(shares(range(n), most))
        assert [(len(group), weight) for group, weight in mine] == expected[number]
        counted += [item for group, weight in mine if weight for item in group]
    assert sorted(counted) == list(range(n))


def test_without_items_there_is_nothing_to_evaluate() -> None:
    assert list(shares([], 3)) == []
