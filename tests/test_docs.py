"""Every command of the documentation runs, in a copy of the repository with small data; every link and file that it names is there.

`dvc exp run` is run as what it changes: the parameters are set by name, and DVC reads the graph with them; the graph's own test runs such stages.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests import repositories

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


def commands(page: Path) -> list[str]:
    return [line for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE) for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = repositories.copy(tmp_path_factory.mktemp("docs") / "copy")
    repositories.begin(folder)
    return folder


def planned(command: str, folder: Path) -> str:
    """What checks a `dvc exp run`: its parameters exist and are set, then DVC reads the graph with them and finds the stage."""
    words = shlex.split(command)
    settings = [words[i + 1].partition("=") for i, word in enumerate(words) if word == "-S"]
    yaml = YAML()
    params = yaml.load((folder / "params.yaml").read_text())
    for name, _, value in settings:
        *path, last = name.split(".")
        section = params
        for key in path:
            section = section[key]
        assert last in section, name
        section[last] = YAML(typ="safe").load(value)
    yaml.dump(params, folder / "params.yaml")
    stage = words[-1] if words[-2] != "-S" else ""
    return f"dvc stage list --name-only | grep -q '^{stage}'"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page: Path, copy: Path, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")} | {"PATH": path, "PLUMBLINE_STATE": str(tmp_path / "state")}
    for command in commands(page):
        if command.startswith(("dvc push", "python -m stages.lineage")):
            continue  # need the results of a run: tests/test_whole_graph.py
        line = (planned(command, copy) if command.startswith("dvc exp run") else command).replace("../plumbline-storage", str(tmp_path / "storage"))
        done = subprocess.run(["sh", "-c", line], cwd=copy, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"`((?:stages|prompts|tests|data/sample|models/servers|\.github)/[\w./-]+)`", page.read_text()):
        assert (ROOT / path).exists(), path
