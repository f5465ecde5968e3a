"""What an unfinished training run needs to go on, kept until it has finished.

A run fills ``.plumbline/training/<key>/run/`` under the repository root, outside DVC's outputs, which DVC empties before a stage starts. Beside
it lies the state at the last checkpoint, in a file named by its own hash. ``key`` stands for all that the result depends on: base weights,
samples, parameters, code. So a run that is started again after it was killed finds its state, and one with other inputs does not.
"""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import filelock
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from stages.core.errors import InputError
from stages.core.files import replacing, sha256
from stages.core.params import Section
from stages.core.workspace import state_folder
from stages.tuning import distributed
from stages.tuning.points import START, Point

KEPT_DAYS = 30  # an unfinished run that nobody came back to is removed then
STAGES = Path(__file__).parent.parent


def run_key(base: Path, sections: Sequence[Section], samples: Iterable[object], extra: str = "") -> str:
    """Identifies all that the result of a run depends on; ``samples`` are dataclasses, in order. Process 0 computes it for all."""
    return distributed.from_first(_digest(base, sections, samples, extra) if distributed.rank() == 0 else "")


def _digest(base: Path, sections: Sequence[Section], samples: Iterable[object], extra: str) -> str:
    digest = hashlib.sha256(extra.encode())
    digest.update("".join(f"{name} {version(name)}\n" for name in ("torch", "torchtune")).encode())
    loaded = {Path(file).resolve() for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    for file in sorted(loaded):
        if file.is_relative_to(STAGES):  # the modules that the stage imports
            digest.update(f"{file.relative_to(STAGES)} {sha256(file)}\n".encode())
    for file in sorted([*base.glob("*.safetensors"), *base.glob("*.json")]):
        digest.update(f"{file.name} {sha256(file)}\n".encode())
    for section in sections:
        digest.update(section.model_dump_json().encode())
    for sample in samples:
        digest.update(repr(sample).encode(errors="surrogatepass"))
    return digest.hexdigest()[:32]


class State:
    """The kept state of one run; only process 0 writes it."""

    def __init__(self, folder: Path, name: str) -> None:
        """``folder`` of this run; ``name`` of the adapter, for messages."""
        self.folder, self.name = folder, name
        self.run = folder / "run"
        "is filled with step-000010/… and log.jsonl"
        self._files: dict[str, str] = {}

    def read(self) -> Point | None:
        """The last point that is whole; ``run`` is put back to what it was then.

        Damaged files are named and removed, so that the run goes on from an earlier point or starts anew.
        """
        found = distributed.from_first(self._newest() if distributed.rank() == 0 else None)
        return _load(self.folder / found) if found else None

    def _newest(self) -> str | None:
        self.run.mkdir(parents=True, exist_ok=True)
        for file in sorted(self.folder.glob("*.safetensors"), reverse=True):
            try:
                point, files = _load(file), _metadata(file)
                if sha256(file) != file.stem.rpartition("-")[2]:
                    raise ValueError("its content is not what was written")
                _check(self.run, files)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                print(f"{self.name}: the state in {file} is damaged ({error}) and is ignored.", file=sys.stderr)
                file.unlink()
                continue
            self._restore(point, files)
            return file.name
        self._restore(START, {})
        return None

    def _restore(self, point: Point, files: dict[str, str]) -> None:
        self._files = files
        for folder in self.run.glob("step-*"):
            if not any(name.startswith(f"{folder.name}/") for name in files):
                shutil.rmtree(folder)  # written after the point, perhaps in part
        (self.run / "log.jsonl").write_bytes(point.log)

    def write(self, point: Point) -> None:
        """Keep ``point``, whose checkpoint lies in ``run`` already; earlier points are removed then."""
        if distributed.rank() > 0:
            return
        for file in sorted(self.run.glob("step-*/*")):
            name = str(file.relative_to(self.run))
            if name not in self._files:
                self._files[name] = sha256(file)
        temporary = self.folder / "writing.tmp"
        log = torch.frombuffer(bytearray(point.log), dtype=torch.uint8) if point.log else torch.empty(0, dtype=torch.uint8)
        facts = {"step": str(point.step), "seen": str(point.seen), "files": json.dumps(self._files)}
        save_file({**point.tensors, "log": log}, temporary, metadata=facts)
        target = self.folder / f"{point.step:08d}-{sha256(temporary)}.safetensors"
        temporary.replace(target)
        for file in self.folder.glob("*.safetensors"):
            if file != target:
                file.unlink()


def _load(file: Path) -> Point:
    with safe_open(file, "pt") as content:
        facts = content.metadata()
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  # not a mapping
    log = tensors.pop("log")
    return Point(int(facts["step"]), int(facts["seen"]), log.numpy().tobytes(), tensors)


def _metadata(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as content:
        return {str(name): str(digest) for name, digest in json.loads(content.metadata()["files"]).items()}


def _check(folder: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        if sha256(folder / name) != digest:
            raise ValueError(f"{folder / name} is not what was written")


@contextmanager
def resumable(target: Path, key: str) -> Iterator[State]:
    """Keep the state of a run that fills ``target``; when the block succeeds, ``run`` is copied there and the state removed.

    A second process that trains the same waits for the first one.

    :raises InputError: if the state cannot be written.
    """
    folder = state_folder("training") / key
    state = State(folder, target.name)
    if distributed.rank() > 0:
        yield state
        return
    lock = filelock.FileLock(state_folder("locks") / f"training-{key}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"{target.name}: another process trains the same. Waiting for it to end.", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        _forget_old(folder.parent)
        folder.mkdir(exist_ok=True)
        yield state
        with replacing(target) as temporary:
            shutil.copytree(state.run, temporary)
        shutil.rmtree(folder)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{target.name}: its state or its checkpoints cannot be written ({error}). Make room, or set PLUMBLINE_STATE to a folder on another disk.") from error
    finally:
        lock.release()


def _forget_old(folder: Path) -> None:
    for run in folder.iterdir():
        if run.is_dir() and run.stat().st_mtime < time.time() - KEPT_DAYS * 86400:
            shutil.rmtree(run)
