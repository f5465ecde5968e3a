"""The stages that annotate, with a model behind a real server."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core import tables

ROOT = Path(__file__).parent.parent.parent
TEXTS = (
    "Every kid should see a doctor, and nobody should go broke over an ambulance ride.",
    "The rent went up again and the landlord still has not fixed the stairs.",
    "Raise the minimum wage, it has been the same since I was in school.",
    "Transit cuts hit the night shift first. Fund the buses.",
)


@pytest.fixture
def workplace(real_server: str, tmp_path: Path) -> Path:
    (tmp_path / "prompts").symlink_to(ROOT / "prompts")
    (tmp_path / "server.yaml").write_text(f"base_url: {real_server}\nmodel: smollm2\n")
    parameters = (ROOT / "params.yaml").read_text().replace("file: models/base/model.gguf", "file: server.yaml").replace("threshold: 2", "threshold: 0")
    (tmp_path / "params.yaml").write_text(parameters)
    rows = [{"id": f"p{i}", "source": "s", "author": None, "created_at": None, "text": text, "status": "kept"} for i, text in enumerate(TEXTS)]
    tables.write(tmp_path / "posts.parquet", pa.Table.from_pylist(rows, schema=tables.POSTS), tables.POSTS)
    return tmp_path


def run(folder: Path, stage: str, *files: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": ""}
    done = subprocess.run([sys.executable, "-m", f"stages.data.{stage}", "left", *files], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_posts_become_preference_pairs_through_a_server_and_are_asked_about_once(workplace: Path) -> None:
    run(workplace, "filter", "posts.parquet", "scored.parquet")
    scored = tables.read(workplace / "scored.parquet", tables.SCORED).to_pylist()
    assert [sum(row[f"p{k}"] for k in range(4)) for row in scored] == pytest.approx([1.0] * len(TEXTS), abs=1e-5)
    assert len({round(row["p0"], 4) for row in scored}) > 1
    written = len(TEXTS)
    for stage, source, target in (("instruct", "scored", "instructions"), ("respond", "instructions", "responses"), ("contrast", "responses", "preferences")):
        run(workplace, stage, f"{source}.parquet", f"{target}.parquet", f"{target}-rejected.parquet")
        good, bad = (len(pq.read_table(workplace / f"{name}.parquet")) for name in (target, f"{target}-rejected"))
        assert good + bad == written
        written = good
    assert written > 0
    origin = tables.provenance(workplace / "scored.parquet")
    again = run(workplace, "filter", "posts.parquet", "again.parquet")
    assert f"{origin['answers']} answers, {origin['answers']} of them from the response cache" in again
    assert tables.provenance(workplace / "again.parquet") == origin
