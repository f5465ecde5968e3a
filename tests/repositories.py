"""Copies of the project as git repositories, and commands run in them as a user would."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from dvc.repo import Repo

ROOT = Path(__file__).parent.parent


def run(folder: Path, *command: str) -> str:
    """What a command prints that must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PLUMBLINE", "DVC_"))}
    done = subprocess.run(command, cwd=folder, env=environment | {"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def copy(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> Path:
    """The project's files, as they are now and as far as git does not ignore them, in ``folder``."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists() and wanted(name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def begin(folder: Path) -> None:
    """Make a repository of ``folder`` with one commit."""
    run(folder, "git", "init", "-q")
    run(folder, "git", "config", "user.name", "t")
    run(folder, "git", "config", "user.email", "t@example.org")
    commit(folder)


def commit(folder: Path) -> None:
    """Commit all that is there."""
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "all", "--allow-empty")


def stand_ins(folder: Path) -> Iterator[Path]:
    """A file for all that the stages write, and for what of it other stages read by its name."""
    with Repo(str(folder)) as repo:
        written = [Path(out.fs_path) for stage in repo.index.stages for out in stage.outs]
        read = [Path(dep.fs_path) for stage in repo.index.stages for dep in stage.deps]
    inside = [path for path in read if not path.exists() and not any(path == out or path in out.parents for out in written)]
    yield from dict.fromkeys([path if path.suffix else path / "part" for path in written] + inside)


def finish(folder: Path) -> None:
    """Commit the graph as if it had run, with stand-ins for what its stages write: DVC minds hashes, not content."""
    for file in stand_ins(folder):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"figure": 1}' if file.suffix == ".json" else f"adapter,step\n{file.name},1\n")
    run(folder, "dvc", "commit", "--force")
    commit(folder)


def stages_run(output: str) -> set[str]:
    """The stages that ``dvc repro`` says it runs, without their items."""
    return {name.split("@")[0] for name in re.findall(r"Running stage '(.+?)'", output)}


def share(folder: Path, place: Path) -> Path:
    """Push results to a remote under ``place`` as docs/sharing.md says, and clone the repository there, without its cache."""
    run(folder, "dvc", "remote", "add", "--default", "--force", "storage", str(place / "storage"))
    commit(folder)
    run(folder, "dvc", "push")
    run(place, "git", "clone", "-q", str(folder), "clone")
    return place / "clone"
