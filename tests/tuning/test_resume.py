import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stages.core import tables
from stages.tuning import resume
from stages.tuning.data import Sample
from stages.tuning.points import Point
from stages.tuning.resume import State, resumable, run_key
from stages.tuning.settings import Schedule

ROOT = Path(__file__).parent.parent.parent
PARAMETERS = """
sft: {datasets: [posts], steps: STEPS, checkpoint_every: 4, batch_size: 4, learning_rate: 1e-3, weight_decay: 0.01, warmup: 0.1}
tuning:
  lora: {rank: 4, alpha: 8, dropout: 0.1, attention: [q, v], mlp: true}
  precision: bf16
  held_out: 0.2
  max_length: 64
  clip: 1.0
  seed: 1
runtime: {sequences: 4, micro_batch: 3, device: cpu}
"""


def stage(folder: Path, state: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PLUMBLINE_STATE": str(state), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "stages.models.sft", "posts", "models/base", "no.parquet", "i.parquet", "no.parquet", "models/adapters/left-posts"]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def hashes(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture
def workplace(real_tokens_base: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "models").mkdir(parents=True)
    (folder / "models/base").symlink_to(real_tokens_base)
    rows = [{"id": f"i{n}", "post_id": f"p{n}", "instruction": f"Question {n}?", "response": f"Answer {n}."} for n in range(20)]
    tables.write(folder / "i.parquet", rows, tables.INSTRUCTIONS)
    return folder


def test_a_killed_run_ends_with_the_bits_of_an_unbroken_one(workplace: Path, tmp_path: Path) -> None:
    (workplace / "params.yaml").write_text(PARAMETERS.replace("STEPS", "40"))
    killed, state = stage(workplace, tmp_path / "state"), tmp_path / "state"
    while not list(state.glob("training/*/*.safetensors")) and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (kept,) = state.glob("training/*/*.safetensors")
    assert 4 <= int(kept.name.partition("-")[0]) < 40
    target = workplace / "models/adapters/left-posts"
    assert not target.exists()
    again = stage(workplace, state)
    printed, message = again.communicate(timeout=300)
    assert again.returncode == 0, message
    assert "left-posts: goes on after step" in printed
    assert "torchao" not in message  # which warns of kernels that nothing uses
    found = hashes(target)
    assert len([name for name in found if name.endswith("adapter.gguf")]) == 10
    assert list((state / "training").iterdir()) == []  # nothing is left of a finished run
    shutil.rmtree(target)
    unbroken = stage(workplace, tmp_path / "other")
    printed, message = unbroken.communicate(timeout=300)
    assert unbroken.returncode == 0, message
    assert "goes on" not in printed
    assert hashes(target) == found


def point(step: int) -> Point:
    return Point(step, 10 * step, b"".join(b'{"step": %d}\n' % i for i in range(1, step + 1)), {"weight/a": torch.full((3,), float(step))})


def fill(state: State, *steps: int) -> None:
    state.read()
    for step in steps:
        folder = state.run / f"step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / "adapter.gguf").write_bytes(b"weights %d" % step)
        (state.run / "log.jsonl").write_bytes(point(step).log)
        state.write(point(step))


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "key", "left-posts")


def points(state: State) -> list[Path]:
    return sorted(state.folder.glob("*.safetensors"))


def test_what_was_written_is_read(state: State) -> None:
    fill(state, 2, 4)
    found = State(state.folder, "left-posts").read()
    assert found is not None and (found.step, found.seen, found.log) == (4, 40, point(4).log)
    assert torch.equal(found.tensors["weight/a"], torch.full((3,), 4.0))
    assert len(points(state)) == 1  # the earlier one is removed


def test_what_was_done_after_the_point_is_taken_back(state: State) -> None:
    fill(state, 2)
    half = state.run / "step-000004"
    half.mkdir()
    (half / "adapter.gguf").write_bytes(b"half")
    with (state.run / "log.jsonl").open("a") as log:
        log.write('{"step": 3}\n{"st')
    State(state.folder, "left-posts").read()
    assert sorted(path.name for path in state.run.iterdir()) == ["log.jsonl", "step-000002"]
    assert (state.run / "log.jsonl").read_bytes() == point(2).log


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, change, empty])
def test_a_damaged_state_is_named_and_the_run_starts_anew(state: State, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]) -> None:
    fill(state, 2)
    (file,) = points(state)
    harm(file)
    assert State(state.folder, "left-posts").read() is None
    assert f"left-posts: the state in {file} is damaged" in capsys.readouterr().err
    assert [path.name for path in state.run.iterdir()] == ["log.jsonl"]
    assert (state.run / "log.jsonl").read_bytes() == b""
    assert State(state.folder, "left-posts").read() is None
    assert capsys.readouterr().err == ""  # said once


def test_a_damaged_newest_state_leaves_an_older_one(state: State) -> None:
    fill(state, 2)
    (older,) = points(state)
    content = older.read_bytes()
    fill(state, 4)
    older.write_bytes(content)  # as after a crash between writing the new one and removing the old one
    cut(points(state)[-1])
    found = State(state.folder, "left-posts").read()
    assert found is not None and found.step == 2


def test_a_checkpoint_that_was_changed_is_noticed(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    fill(state, 2)
    (state.run / "step-000002/adapter.gguf").write_bytes(b"other")
    assert State(state.folder, "left-posts").read() is None
    assert "step-000002/adapter.gguf is not what was written" in capsys.readouterr().err


def test_a_run_that_fails_keeps_its_state_and_leaves_the_target_alone(tmp_path: Path) -> None:
    target = tmp_path / "left-posts"
    with pytest.raises(KeyboardInterrupt), resumable(target, "key") as state:
        fill(state, 2)
        raise KeyboardInterrupt
    assert not target.exists()
    with resumable(target, "key") as state:
        found = state.read()
        assert found is not None and found.step == 2
    assert sorted(path.name for path in target.iterdir()) == ["log.jsonl", "step-000002"]
    assert not state.folder.exists()


def test_runs_that_nobody_came_back_to_are_removed(tmp_path: Path) -> None:
    with resumable(tmp_path / "a", "new") as state:
        old = state.folder.parent / "old"
        old.mkdir()
        state.read()
        long_ago = time.time() - 86400 * (resume.KEPT_DAYS + 1)
        os.utime(old, (long_ago, long_ago))
    with resumable(tmp_path / "b", "newer") as state:
        state.read()
    assert not old.exists()


def test_the_key_changes_with_weights_samples_and_parameters_only(tmp_path: Path) -> None:
    def key(weights: bytes = b"w", rate: float = 0.1, token: int = 5) -> str:
        (tmp_path / "model.safetensors").write_bytes(weights)
        schedule = Schedule(steps=5, checkpoint_every=1, batch_size=1, learning_rate=rate, weight_decay=0, warmup=0)
        return run_key(tmp_path, [schedule], [Sample("a", (1, token), 1, False)])

    assert key() == key()
    assert len({key(), key(weights=b"v"), key(rate=0.2), key(token=6)}) == 4
