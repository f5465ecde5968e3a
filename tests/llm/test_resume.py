"""What a killed stage was answered is not asked again."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stages.core import tables
from stages.data.filter import Params, filter_posts
from stages.llm.cache import Cached
from stages.llm.prompts import Task
from tests.llm.faulty_server import FaultyServer

ROOT = Path(__file__).parent.parent.parent
TASK = Task(system="You judge.", user="Post: $post", options=("No", "Hardly", "Yes", "Absolutely"))


def posts(n: int, words: int = 12) -> pa.Table:
    rows = [
        {"id": f"p{i}", "source": "s", "author": None, "created_at": None, "text": f"Post number {i}: " + " ".join(f"word{i + k}" for k in range(words)), "status": "kept"}
        for i in range(n)
    ]
    return pa.Table.from_pylist(rows, schema=tables.POSTS)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A project of one stage."""
    (tmp_path / "prompts").symlink_to(ROOT / "prompts")
    tables.write(tmp_path / "posts.parquet", posts(90, 40), tables.POSTS)
    stage = {"cmd": "python -m stages.data.filter left posts.parquet scored.parquet", "deps": ["posts.parquet"], "outs": ["scored.parquet"]}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"filter": stage}}))
    repro(tmp_path, "init", "--no-scm", "-q").communicate()
    return tmp_path


def annotated_by(folder: Path, file: Path) -> None:
    (folder / "params.yaml").write_text(
        f"annotator: {{file: {file}, context: 1024, max_characters: 400}}\nfilter: {{threshold: 0, calibrate: false}}\n"
        "runtime: {sequences: 8, micro_batch: 1, device: cpu}\nserver: {concurrency: 4}\n"
    )


def repro(folder: Path, *command: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.Popen(["dvc", *(command or ["repro"])], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def answers() -> int:
    file = Path(os.environ["PLUMBLINE_STATE"]) / "llm" / "responses.sqlite"
    try:
        store = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        found = int(store.execute("SELECT count(*) FROM answers").fetchone()[0])
        store.close()
    except sqlite3.OperationalError:  # not there yet
        return 0
    return found


def kill_halfway(folder: Path) -> int:
    """Kill ``dvc repro`` and its stage with no time to tidy up; how many answers are kept."""
    running = repro(folder)
    while answers() < 20 and running.poll() is None:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    kept = answers()
    assert 20 <= kept < 90
    assert not (folder / "scored.parquet").exists()
    return kept


def finish(folder: Path, kept: int) -> None:
    again = repro(folder)
    message, _ = again.communicate(timeout=240)
    assert again.returncode == 0, message
    assert re.search(rf"90 answers, {kept} of them from the response cache", message), message
    assert answers() == 90
    assert len(tables.read(folder / "scored.parquet", tables.SCORED)) == 90


def test_a_filter_that_was_killed_asks_only_for_the_rest(workplace: Path, base_model: Path) -> None:
    annotated_by(workplace, base_model / "model.gguf")
    finish(workplace, kill_halfway(workplace))


def test_a_filter_that_was_killed_asks_a_server_only_for_the_rest(workplace: Path, faulty: FaultyServer) -> None:
    faulty.listed = {"No": -1.0, "Hardly": -2.0, "Yes": -1.5, "Absolutely": -3.0}
    faulty.delay = 0.1
    (workplace / "server.yaml").write_text(f"base_url: {faulty.url}\nmodel: m\n")
    annotated_by(workplace, Path("server.yaml"))
    kept = kill_halfway(workplace)
    before, faulty.delay = len(faulty.requests), 0.0
    assert before <= kept + 4 + 1  # what was under way, and an answer on its way to the cache, are lost with the process
    finish(workplace, kept)
    assert len(faulty.requests) - before == 90 - kept


def test_a_corpus_grown_by_one_in_a_hundred_costs_as_much_more(fake_model: Any, tmp_path: Path) -> None:
    even = (0.1, 0.2, 0.3, 0.4)
    settings = Params(threshold=0, calibrate=False)
    first = fake_model(choices=[even] * 400)
    filter_posts(posts(400), "left", Cached(first, tmp_path / "c.sqlite"), TASK, settings, 280)
    second = fake_model(choices=[even] * 400)
    filter_posts(posts(404), "left", Cached(second, tmp_path / "c.sqlite"), TASK, settings, 280)
    assert len(first.history) == 400
    assert len(second.history) == 4
