"""The whole lean study with annotator and judge behind a real HTTP server: llama-cpp-python's own, which the tests start and stop."""

import json
import sqlite3
from math import isnan
from pathlib import Path

import pytest

from stages.core import tables
from stages.llm.endpoint import Endpoint
from stages.metrics.judge import ANSWERS
from tests.test_whole_graph import QUESTIONS, SMALL, copy_small, run, stages_run

ENDPOINT = "models/servers/loopback.yaml"
GOLD, ROWS = 12, 30
SETTINGS = SMALL | {
    "leanings": ["left", "right"],
    "annotator.file": ENDPOINT,
    "judge.model.file": ENDPOINT,
    "judge.judges": ["llm"],
    "judge.min_valid": 0.0,  # a model this small seldom begins with a number
    "server.concurrency": 1,  # this server answers one request after another; the next one finds its prompt evaluated if it is of the same text
    "filter.threshold": 0,
    "instruct.limit": 8,
}

pytestmark = pytest.mark.graph


@pytest.fixture(scope="module")
def study(real_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("server") / "clone"
    (folder / ENDPOINT).parent.mkdir(parents=True)
    (folder / ENDPOINT).write_text(f"base_url: {real_server}\nmodel: smollm2\n")
    copy_small(folder, SETTINGS, ROWS)
    gold = folder / "data/sample/lean/gold.jsonl"
    gold.write_text("".join(gold.read_text().splitlines(keepends=True)[:GOLD]))
    run(folder, "dvc", "repro", "summary", "usage")
    return folder


def test_the_study_comes_to_its_summary(study: Path) -> None:
    summary, judge = (json.loads((study / f"metrics/{name}.json").read_text()) for name in ("summary", "judge"))
    assert set(summary["separation"]) == {"synthetic", "preference"}
    assert all(found["judge"]["low"] <= found["judge"]["value"] <= found["judge"]["high"] for found in summary["separation"].values())
    names = {f"{leaning}-{dataset}" for leaning in ("left", "right") for dataset in ("synthetic", "preference")}
    assert set(judge) == {"base", "judges", "balanced-left-synthetic", "balanced-right-synthetic"} | names
    assert judge["judges"]["llm"]["n"] > 0


def test_every_answer_of_annotator_and_judge_is_the_servers(study: Path, real_server: str) -> None:
    fingerprint = Endpoint(base_url=real_server, model="smollm2").fingerprint
    written = [study / f"data/{name}/{leaning}.parquet" for name in ("scored", "instructions", "responses", "preferences") for leaning in ("left", "right")]
    assert {tables.provenance(table)["model"] for table in written} == {fingerprint}
    with sqlite3.connect(study / ".plumbline/llm/responses.sqlite") as store:
        answers = [json.loads(answer) for (answer,) in store.execute("SELECT answer FROM answers WHERE model = ?", (fingerprint,))]
    store.close()
    judged = [answer["probabilities"] for answer in answers if len(answer.get("probabilities", ())) == 21]
    texts = {row["text"] for row in tables.read(study / "metrics/answers/judge.parquet", ANSWERS).to_pylist() if row["score"] is not None and not isnan(row["score"])}
    assert len(texts) > QUESTIONS
    assert len(judged) >= GOLD // 2 + len(texts)  # some gold texts may be too short to be asked about
    scores = [sum(score * probability for score, probability in enumerate(probabilities)) for probabilities in judged]
    assert max(scores) - min(scores) > 0.1


def test_nothing_is_asked_again(study: Path) -> None:
    assert stages_run(run(study, "dvc", "repro", "summary", "usage")) == set()
