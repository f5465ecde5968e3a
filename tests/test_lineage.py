from itertools import pairwise
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages import lineage
from stages.core import tables
from stages.core.errors import InputError
from stages.core.files import short_hash
from stages.data import collect

SOURCE = "table:dump.jsonl"
POST, OTHER = short_hash(SOURCE, "7"), short_hash(SOURCE, "8")


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("dump.jsonl").write_text('{"id": 7, "text": "Rents are @ann too high."}\n{"id": 8, "text": "Taxes are fine."}\n')
    collecting = {"sources": {"left": {"format": "table", "path": "dump.jsonl"}}, "parties": {}, "language": "en", "language_certainty": 0.9, "min_words": 2}
    YAML().dump({"collect": collecting | {"duplicate_similarity": 0.6, "max_unreadable": 0, "salt": "s"}}, Path("params.yaml"))
    Path("prompts").mkdir()
    for name in ("filter", "instruct", "respond", "contrast"):
        Path(f"prompts/{name}.yaml").write_text("user: $post")
    settings = collect.params.load("collect", collect.Params)
    rows = [collect.to_post(record, SOURCE, settings) for record in collect.read("left", settings)]
    tables.write(Path("data/posts/left.parquet"), rows, tables.POSTS)
    scored = [row | {"score": 3, "p0": 0.1, "p1": 0.1, "p2": 0.1, "p3": 0.7, "kept": True} for row in rows]
    tables.write(Path("data/scored/left.parquet"), scored, tables.SCORED, {"model": "small", "prompt": "0"})
    ids = {"instruct": short_hash("instruct", POST)}
    ids["respond"] = short_hash("respond", ids["instruct"])
    ids["contrast"] = short_hash("contrast", ids["respond"])
    instruction = {"id": ids["instruct"], "post_id": POST, "instruction": "What of rents?", "response": "Rents are too high."}
    tables.write(Path("data/instructions/left.parquet"), [instruction], tables.INSTRUCTIONS)
    refused = {"id": short_hash("instruct", OTHER), "post_id": OTHER, "instruction": "", "response": "Taxes are fine.", "reason": "empty"}
    tables.write(Path("data/instructions/rejected/left.parquet"), [refused], tables.rejects(tables.INSTRUCTIONS))
    tables.write(Path("data/responses/left.parquet"), [instruction | {"id": ids["respond"], "response": "They rise."}], tables.RESPONSES)
    ids["balance"] = short_hash("balance", ids["contrast"])
    pair = {"id": ids["contrast"], "post_id": POST, "prompt": "What of rents?", "chosen": "They rise.", "rejected": "They fall."}
    tables.write(Path("data/preferences/left.parquet"), [pair], tables.PREFERENCES)
    tables.write(Path("data/balanced/pairs.parquet"), [pair | {"id": ids["balance"]}], tables.PREFERENCES)
    write_lock()
    return tmp_path


def write_lock() -> None:
    def stage(deps: list[str], outs: list[str]) -> dict[str, object]:
        return {kind: [{"path": path} for path in paths] for kind, paths in (("deps", deps), ("outs", outs))}

    chain = [("posts", "collect"), ("scored", "filter"), ("instructions", "instruct"), ("responses", "respond"), ("preferences", "contrast")]
    stages = {"collect@left": stage(["dump.jsonl"], ["data/posts/left.parquet"])}
    for (source, _), (target, name) in pairwise(chain):
        aside = [f"data/{target}/rejected/left.parquet"] if target != "scored" else []
        stages[f"{name}@left"] = stage([f"data/{source}/left.parquet", f"prompts/{name}.yaml", "models/base/model.gguf"], [f"data/{target}/left.parquet", *aside])
    everything = ["data/scored/left.parquet", "data/instructions/left.parquet", "data/responses/left.parquet"]
    stages |= {f"sft@left-{name}": stage(everything, [f"models/adapters/left-{name}"]) for name in ("corpus", "posts", "synthetic")}
    stages["dpo@left"] = stage(["data/preferences/left.parquet"], ["models/adapters/left-preference"])
    stages["undo@left-synthetic"] = stage(["models/adapters/left-synthetic", "data/balanced/pairs.parquet"], ["models/adapters/balanced-left-synthetic"])
    stages["undo@left-corpus"] = stage(["models/adapters/left-corpus", "data/nothing.parquet"], ["models/adapters/balanced-left-corpus"])
    stages["balance"] = stage(["data/preferences"], ["data/balanced/pairs.parquet"])
    YAML().dump({"stages": stages}, Path("dvc.lock"))


def stages_of(text: str) -> list[str]:
    return [line.split("@")[0] for line in text.splitlines() if "@left: data/" in line]


def test_a_pair_leads_back_to_the_raw_post(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lineage.main(short_hash("contrast", short_hash("respond", short_hash("instruct", POST))))
    text = capsys.readouterr().out
    assert stages_of(text) == ["collect", "filter", "instruct", "respond", "contrast"]
    assert "raw post 7" in text
    assert "Rents are @ann too high." in text
    assert "p3          0.700" in text
    assert "models/base/model.gguf small" in text
    assert "prompts/filter.yaml, changed since" in text
    assert "prompts/contrast.yaml\n" in text


@pytest.mark.parametrize("name", [POST, "7"])
def test_a_post_leads_forward_to_all_that_was_made_from_it(graph: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    lineage.main(name)
    before, after = capsys.readouterr().out.split("-- what became of it --")
    assert stages_of(before) == ["collect", "filter"]
    assert stages_of(after) == ["instruct", "respond", "contrast"]
    trained = ["left-corpus", "left-posts", "left-synthetic", "left-preference", "balanced-left-synthetic", "balanced-left-corpus"]
    assert after.rstrip().endswith(": " + ", ".join(f"models/adapters/{name}" for name in trained))


def test_a_balanced_pair_leads_back_to_the_side_that_it_came_from(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contrast = short_hash("contrast", short_hash("respond", short_hash("instruct", POST)))
    lineage.main(short_hash("balance", contrast))
    text = capsys.readouterr().out
    assert stages_of(text) == ["collect", "filter", "instruct", "respond", "contrast"]
    assert "balance: data/balanced/pairs.parquet" in text
    assert text.rstrip().endswith(": models/adapters/balanced-left-synthetic")


def test_an_answer_leads_both_ways(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lineage.main(short_hash("respond", short_hash("instruct", POST)))
    before, after = capsys.readouterr().out.split("-- what became of it --")
    assert stages_of(before) == ["collect", "filter", "instruct", "respond"]
    assert stages_of(after) == ["contrast"]
    assert "posts" not in after.splitlines()[-1]


def test_a_row_put_aside_says_why_and_trains_nothing_but_the_corpus(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lineage.main(OTHER)
    text = capsys.readouterr().out
    assert "reason      empty" in text
    assert text.rstrip().endswith(": models/adapters/left-corpus, models/adapters/balanced-left-corpus")  # the latter goes on from the former


def test_a_post_that_left_the_dump_is_said_to_have(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dump.jsonl").write_text('{"id": 8, "text": "Taxes are fine."}\n')
    lineage.main("7")
    assert "raw post: no longer in the dump" in capsys.readouterr().out


def test_an_unknown_id_is_refused_with_the_tables_that_were_looked_at(graph: Path) -> None:
    with pytest.raises(InputError, match=r"'nobody'.*data/posts/left\.parquet.*data/preferences/left\.parquet"):
        lineage.main("nobody")


def test_before_the_first_run_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"dvc\.lock.*dvc repro"):
        lineage.main("7")
