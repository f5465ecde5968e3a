"""The whole graph on small settings in a fresh clone: every stage runs, nothing runs twice, and changes re-run what they should."""

import json
import re
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from tests import repositories
from tests.repositories import run, stages_run

SMALL: dict[str, object] = {
    "instruct.limit": 8,
    "respond.max_tokens": 40,
    "contrast.max_tokens": 40,
    "annotator.max_characters": 120,
    "tuning.max_length": 64,
    "sft.steps": 2,
    "sft.checkpoint_every": 1,
    "sft.batch_size": 2,
    "dpo.steps": 2,
    "dpo.checkpoint_every": 2,
    "dpo.batch_size": 2,
    "undo.steps": 2,
    "undo.checkpoint_every": 2,
    "undo.batch_size": 2,
    "compass.wordings": 1,
    "judge.max_tokens": 16,
    "capability.questions": 3,
    "simulate.steps": 2,
    "simulate.checkpoint_every": 2,
    "simulate.batch_size": 1,
    "simulate.panel": 4,
    "simulate.validation": 1,
    "opinion.respondents": 6,
    "opinion.trees": 10,
    "topics.issues": ["covid"],
    "speak.repeats": 1,
    "speak.max_tokens": 12,
    "speak.base": ["none", "liberal"],
    "speak.adapters": [],
}

PAIRS, QUESTIONS = 4, 4
"Statements with their opposites on each axis of the compass, and open questions for the judge, of those that there are."

pytestmark = pytest.mark.graph


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph") / "clone"
    copy_small(folder, SMALL, 60)
    run(folder, "dvc", "repro")
    return folder


def copy_small(folder: Path, changes: Mapping[str, object], rows: int) -> None:
    """Make a clone with other settings, the first rows of the sample and the first items of the instruments."""
    repositories.copy(folder, lambda name: not name.startswith("metrics/") and name != "dvc.lock")

    def configure(settings: Any) -> None:
        for key, value in changes.items():  # every sample post is scored whole otherwise; a few suffice here
            *sections, name = key.split(".")
            section = reduce(lambda found, part: found[part], sections, settings)
            assert name in section, key
            section[name] = value

    edit(folder / "params.yaml", configure)
    edit(folder / "prompts/instruments/compass.yaml", shorten_compass)
    edit(folder / "prompts/instruments/questions.yaml", lambda asked: asked.update(questions=asked["questions"][:QUESTIONS]))
    shorten_sample(folder, rows)
    repositories.begin(folder)


def edit(file: Path, change: Callable[[Any], None]) -> None:
    """Change what a YAML file says."""
    yaml = YAML()
    content = yaml.load(file.read_text())
    change(content)
    with file.open("w") as text:
        yaml.dump(content, text)


def shorten_compass(compass: Any) -> None:
    """Keep some statements and their opposites."""
    opposing = [[item for item in compass["items"] if item["axis"] == axis and "negates" in item][:PAIRS] for axis in compass["axes"]]
    kept = {name for items in opposing for item in items for name in (item["id"], item["negates"])}
    compass["items"] = [item for item in compass["items"] if item["id"] in kept]


def shorten_sample(folder: Path, rows: int) -> None:
    """Keep the formats and a part of the rows."""
    import bz2

    truths = folder / "data/sample/truthsocial/truths.tsv"
    lines = truths.read_text().splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if re.match(r"\d+\t\S+( \S+)?\t", line)]
    truths.write_text("".join(lines[: starts[rows]]))
    months = sorted((folder / "data/sample/politosphere").glob("comments_*.bz2"))
    months[0].write_bytes(bz2.compress(b"".join(bz2.decompress(months[0].read_bytes()).splitlines(keepends=True)[:rows])))
    months[1].unlink()
    for name in ("control/posts.jsonl", "lean/gold.jsonl"):
        file = folder / "data/sample" / name
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:rows]))


def test_every_model_is_measured(clone: Path) -> None:
    names = {f"{leaning}-{dataset}" for leaning in ("left", "right", "control") for dataset in ("synthetic", "preference")} | {
        "balanced-left-synthetic",
        "balanced-right-synthetic",
    }
    compass, judge = (json.loads((clone / f"metrics/{name}.json").read_text()) for name in ("compass", "judge"))
    assert set(compass) == names | {"base", "controls"}
    assert set(judge) == names | {"base", "judges"}
    assert all(-10 <= compass[name]["economic"]["low"] <= compass[name]["economic"]["high"] <= 10 for name in compass if "economic" in compass[name])
    assert all(0 <= judge[name]["score"]["value"] <= 20 for name in names if "score" in judge[name])
    summary = json.loads((clone / "metrics/summary.json").read_text())
    answers = pq.read_table(clone / "metrics/answers/judge.parquet").to_pandas()
    repeats = answers.groupby(["adapter", "step"]).repeat.nunique()
    assert repeats.loc["left-synthetic"].to_dict() == {1: 1, 2: 2}  # fewer along the way
    assert {tuple(sorted(found)) for found in summary["separation"].values()} == {("compass_economic", "compass_social", "judge")}
    assert set(json.loads((clone / "metrics/filter.json").read_text())) == {"left", "right", "control"}
    assert len(list(clone.glob("models/adapters/left-synthetic/step-*/adapter.gguf"))) == 2


def test_training_rows_lead_back_to_their_posts(clone: Path) -> None:
    import pandas as pd

    posts, pairs = (pd.read_parquet(clone / f"data/{name}/right.parquet") for name in ("posts", "preferences"))
    assert set(pairs["post_id"]) <= set(posts.loc[posts["status"] == "kept", "id"])
    assert pairs["id"].is_unique


def test_nothing_runs_again(clone: Path) -> None:
    assert stages_run(run(clone, "dvc", "repro")) == set()


def test_whoever_pulls_has_nothing_to_run(clone: Path, tmp_path: Path) -> None:
    other = repositories.share(clone, tmp_path)
    assert json.loads(run(other, "dvc", "metrics", "diff", "HEAD", "--json")) == {}  # before anything is pulled
    run(other, "dvc", "pull")
    assert stages_run(run(other, "dvc", "repro")) == set()
    assert run(other, "git", "status", "--porcelain") == ""


def test_another_prompt_reruns_what_reads_it_and_what_follows(clone: Path) -> None:
    prompt = clone / "prompts/contrast.yaml"
    before = prompt.read_text()
    prompt.write_text(before.replace("two or three plain sentences", "two plain sentences"))
    would = stages_that_would_run(clone)
    prompt.write_text(before)
    assert would == {"contrast", "dpo", "balance", "undo", "training", "compass", "judge", "capability", "speak", "label", "affect", "release", "report", "summary", "usage"}


def test_a_docstring_of_the_judge_reruns_the_judge_and_what_follows(clone: Path) -> None:
    module = clone / "stages/metrics/judge.py"
    before = module.read_text()
    module.write_text(before.replace('"""The judge:', '"""The judge, in short:', 1))
    would = stages_that_would_run(clone)
    module.write_text(before)
    assert would == {"judge", "capability", "release", "report", "summary", "usage"}


def test_a_removed_post_is_gone_with_all_that_was_made_from_it(clone: Path) -> None:
    import pandas as pd

    def tables() -> dict[Path, pd.DataFrame]:
        return {path.relative_to(clone): pd.read_parquet(path) for path in [*sorted(clone.glob("data/*/**/left.parquet")), clone / "data/balanced/pairs.parquet"]}

    before, listed = tables(), clone / "data/external/removed.txt"
    post = before[Path("data/preferences/left.parquet")]["post_id"][0]
    text = before[Path("data/posts/left.parquet")].set_index("id").loc[post, "text"]
    listed.write_text(f"{listed.read_text()}{post} # its author asked\n")
    ran = stages_run(run(clone, "dvc", "repro", "undo@left-synthetic", "dpo@left"))
    assert ran == {"collect", "filter", "instruct", "respond", "contrast", "sft", "dpo", "balance", "undo"}
    for path, rows in tables().items():
        assert text not in set(rows.astype(str).to_numpy().ravel()), path
        assert "post_id" not in rows or post not in set(rows["post_id"]), path
    posts = tables()[Path("data/posts/left.parquet")].set_index("id")
    assert posts.loc[post, "status"] == "removed"
    assert len(posts) == len(before[Path("data/posts/left.parquet")])


def test_dropping_a_leaning_keeps_the_others(clone: Path) -> None:
    run(clone, "dvc", "exp", "run", "-S", "leanings=[left]", "-S", "undo.starts=[left-synthetic]")
    assert set(json.loads((clone / "metrics/compass.json").read_text())) == {"base", "controls", "left-synthetic", "left-preference", "balanced-left-synthetic"}
    assert json.loads((clone / "metrics/summary.json").read_text())["separation"] == {}


def stages_that_would_run(folder: Path) -> set[str]:
    """The changed stages and all that depend on them, by DVC's own word."""
    changed = set(json.loads(run(folder, "dvc", "status", "--json")))
    graph = run(folder, "dvc", "dag", "--dot")
    edges = re.findall(r'"(.+?)" -> "(.+?)"', graph)
    while more := {after for before, after in edges if before in changed} - changed:
        changed |= more
    return {name.split("@")[0] for name in changed}
