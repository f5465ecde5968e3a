import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = "PLUMBLINE_PEER_PYTHON"

# TRL and PEFT live in an environment of their own: `nox -s peers` makes it, names it here and runs these tests; `nox -s tests` does not.
collect_ignore_glob = [] if PYTHON in os.environ else ["test_*.py"]


@pytest.fixture
def ask_peer() -> Callable[[str, Path, Mapping[str, Any]], None]:
    """Give TRL and PEFT a command of ``benchmarks.training_peer`` on a folder, which holds ``adapter/`` and gets the job and the answer."""

    def ask(command: str, folder: Path, work: Mapping[str, Any]) -> None:
        (folder / "job.json").write_text(json.dumps(work))
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        command_line = [os.environ[PYTHON], "-m", "benchmarks.training_peer", command, str(folder)]
        done = subprocess.run(command_line, check=False, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout

    return ask
