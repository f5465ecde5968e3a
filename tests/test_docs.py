"""Every command of the documentation runs, in a copy of the repository with small data; every link and file that it names is there.

`dvc exp run` is run up to where stages would: DVC sets the parameters, which must suit their stages, change something, and change no other line of params.yaml,
and plans what they ask for in a graph that has run, with stand-ins for its results. The graph's own test runs such stages. With `--queue` it is run as it stands.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from stages.preset import leaves, unsuitable
from tests import repositories

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS_A_RUN = ("dvc push", "dvc pull", "dvc queue start", "python -m stages.lineage")
"Not run here: push and pull are in tests/test_whole_graph.py, lineage in tests/test_lineage.py; a queue would run whole graphs."


def commands(page: Path) -> list[str]:
    return [line for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE) for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = repositories.copy(tmp_path_factory.mktemp("docs") / "copy")
    repositories.begin(folder)
    repositories.finish(folder)
    return folder


def comments(text: str) -> list[str]:
    """All comments, in order."""
    return re.findall(r"(?:^| )#.*", text, re.MULTILINE)


def plan(command: str, folder: Path) -> None:
    """What checks a `dvc exp run`."""
    words, file = shlex.split(command)[3:], folder / "params.yaml"
    settings = [words[i + 1] for i, word in enumerate(words) if word == "-S"]
    targets = [word for i, word in enumerate(words) if word != "-S" and words[i - 1] != "-S"]
    before = file.read_text()
    for path in re.findall(r"=(data/external/[\w./-]+)", command):  # a user's own
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    apply_overrides(str(file), settings)  # what DVC does with -S
    after = file.read_text()
    names = {setting.partition("=")[0].lstrip("+~") for setting in settings}
    values = YAML(typ="safe").load(after)
    assert list(unsuitable(values, {name.partition(".")[0] for name in names})) == []
    old, new = dict(leaves(YAML(typ="safe").load(before))), dict(leaves(values))
    changed = {".".join(path) for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    assert changed == names
    assert names <= {".".join(path) for path in old}
    assert comments(after) == comments(before)
    would = repositories.stages_run(repositories.run(folder, "dvc", "repro", "--dry", *targets))
    file.write_text(before)
    assert would or not changed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page: Path, copy: Path, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")} | {"PATH": path, "PLUMBLINE_STATE": str(tmp_path / "state")}
    for command in commands(page):
        if command.startswith(NEEDS_A_RUN):
            continue
        if command.startswith("dvc exp run") and "--queue" not in command:
            plan(command, copy)
            continue
        line = command.replace("../plumbline-storage", str(tmp_path / "storage"))
        done = subprocess.run(["sh", "-c", line], cwd=copy, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"`((?:stages|prompts|tests|data/sample|models/servers|\.github)/[\w./-]+)`", page.read_text()):
        assert (ROOT / path).exists(), path
