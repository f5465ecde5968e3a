"""What a killed stage was answered is not asked again."""

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

from stages import tables
from stages.data.filter import Params, filter_posts
from stages.llm.cache import Cached
from stages.prompts import Task

ROOT = Path(__file__).parent.parent.parent
TASK = Task(system="You judge.", user="Post: $post", options=("No", "Hardly", "Yes", "Absolutely"))


def posts(n: int, words: int = 12) -> pa.Table:
    rows = [
        {"id": f"p{i}", "source": "s", "author": None, "created_at": None, "text": f"Post number {i}: " + " ".join(f"word{i + k}" for k in range(words)), "status": "kept"}
        for i in range(n)
    ]
    return pa.Table.from_pylist(rows, schema=tables.POSTS)


@pytest.fixture
def workplace(base_model: Path, tmp_path: Path) -> Path:
    (tmp_path / "prompts").symlink_to(ROOT / "prompts")
    (tmp_path / "params.yaml").write_text(
        f"annotator: {{file: {base_model / 'model.gguf'}, context: 1024, max_characters: 400}}\n"
        "filter: {threshold: 0, calibrate: false}\nruntime: {sequences: 8, micro_batch: 1, device: cpu}\n"
    )
    tables.write(tmp_path / "posts.parquet", posts(90, 40), tables.POSTS)
    return tmp_path


def start(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages.data.filter", "left", "posts.parquet", "scored.parquet"]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def answers() -> int:
    file = Path(os.environ["PLUMBLINE_STATE"]) / "llm" / "responses.sqlite"
    try:
        store = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        found = int(store.execute("SELECT count(*) FROM answers").fetchone()[0])
        store.close()
    except sqlite3.OperationalError:  # not there yet
        return 0
    return found


def test_a_filter_that_was_killed_asks_only_for_the_rest(workplace: Path) -> None:
    stage = start(workplace)
    while answers() < 20 and stage.poll() is None:
        time.sleep(0.02)
    stage.send_signal(signal.SIGKILL)
    stage.communicate()
    kept = answers()
    assert 20 <= kept < 90
    assert not (workplace / "scored.parquet").exists()
    again = start(workplace)
    _, message = again.communicate(timeout=120)
    assert again.returncode == 0, message
    assert re.search(rf"90 answers, {kept} of them from the response cache", message), message
    assert answers() == 90
    assert len(tables.read(workplace / "scored.parquet", tables.SCORED)) == 90


def test_a_corpus_grown_by_one_in_a_hundred_costs_as_much_more(fake_model: Any, tmp_path: Path) -> None:
    even = (0.1, 0.2, 0.3, 0.4)
    settings = Params(threshold=0, calibrate=False)
    first = fake_model(choices=[even] * 400)
    filter_posts(posts(400), "left", Cached(first, tmp_path / "c.sqlite"), TASK, settings, 280)
    second = fake_model(choices=[even] * 400)
    filter_posts(posts(404), "left", Cached(second, tmp_path / "c.sqlite"), TASK, settings, 280)
    assert len(first.history) == 400
    assert len(second.history) == 4
