import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from stages.core import tables
from stages.core.errors import InputError
from stages.core.params import load
from stages.instruments.affect.classifier import EMOTIONS, MORALS
from stages.metrics.affect import Params, change, main

TOPICS = ["masking", "schools", "origins"]
OUTPUTS = [Path(name) for name in ("affect.json", "affect.csv", "profiles.csv", "sensitivity.csv")]
LIBERAL, CONSERVATIVE = np.array([[0.5, 0.3, 0.2, 0], [0, 0.2, 0.2, 0.6]])


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch, few: str = "", **changes: object) -> None:
    """People of both groups and a base model that writes like liberals unless steered; on the topic ``few`` hardly anybody writes."""
    monkeypatch.chdir(folder)
    random, scores = np.random.default_rng(3), {}
    posts: list[dict[str, Any]] = []
    speech: list[dict[str, Any]] = []

    def labelled(name: str, like: np.ndarray) -> str:
        scores[name] = np.eye(4)[random.choice(4, p=like)]
        return name

    for topic in TOPICS:
        for i in range(4 if topic == few else 30):
            for group, like in (("liberal", LIBERAL), ("conservative", CONSERVATIVE)):
                key = labelled(f"{group}-{topic}-{i}", like)
                posts.append({"id": key, "source": "s", "author": f"{group}{i}", "text": "…", "status": "kept", "group": group, "issue": "covid", "topics": [topic]})
        for steering, like in (("none", LIBERAL), ("conservative", CONSERVATIVE)):
            for i in range(20):
                key = labelled(f"m-{steering}-{topic}-{i}", like)
                row = {"model": "base", "steering": steering, "issue": "covid", "topic": topic, "wording": i % 10, "repeat": i // 10}
                speech.append({"id": key, **row, "text": "…", "status": "kept" if i else "empty"})
    tables.write(Path("posts.parquet"), posts, tables.DISCOURSE)
    tables.write(Path("speech/base.parquet"), speech, tables.SPEECH)
    for name, labels in (("words", EMOTIONS[:4]), ("others", EMOTIONS[:4]), ("morals", MORALS[:4])):
        rows = [{"id": key, "labels": labels, "scores": (row if name != "others" else row[::-1]).tolist()} for key, row in scores.items()]
        tables.write(Path(f"labels/{name}.parquet"), rows, tables.AFFECT)
    classifiers = {
        name: {"kind": "lexicon", "measure": measure, "path": "x", "labels": list(labels[:4])}
        for name, measure, labels in (("words", "emotion", EMOTIONS), ("others", "emotion", EMOTIONS), ("morals", "moral", MORALS))
    }
    affect = {"emotion": "words", "moral": "morals", "threshold": 0.5, "weighing": "labels", "min_posts": 10, "sizes": [5, 15], "gold": None, "seed": 1} | changes
    YAML().dump({"label": {"classifiers": classifiers}, "affect": affect}, Path("params.yaml"))


def run() -> tuple[dict[str, Any], list[list[dict[str, str]]]]:
    main(Path("posts.parquet"), Path("speech"), Path("labels"), *OUTPUTS)
    return json.loads(OUTPUTS[0].read_text()), [list(csv.DictReader(path.read_text().splitlines())) for path in OUTPUTS[1:]]


def test_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, monkeypatch)
    found, (heat_map, profiles, sensitivity) = run()
    base = found["base"]
    for measure in ("emotion", "moral"):
        assert base["none"][measure]["liberal"]["value"] > found["baseline"][measure]["value"] + 0.2
        assert base["none"][measure]["tendency"]["low"] > 0 > base["conservative"][measure]["tendency"]["high"]
        assert base["conservative"][measure]["gain"]["low"] > 0
        assert found["floor"][measure]["liberal"]["value"] == pytest.approx(base["none"][measure]["liberal"]["raw"], abs=0.15)
        assert found["floor"][measure]["n"] == 15
    assert base["none"]["posts"] == {"kept": 57, "empty": 3}
    # 2 measures x 3 topics x (2 steerings x 2 groups + the groups with each other)
    assert len(heat_map) == 2 * 3 * (2 * 2 + 1)
    assert {row["note"] for row in heat_map} == {""}
    shares: dict[tuple[str, ...], float] = {}
    for row in profiles:
        key = (row["measure"], row["model"], row["steering"])
        shares[key] = shares.get(key, 0) + float(row["share"])
    assert len(shares) == 2 * 4
    assert list(shares.values()) == pytest.approx([1] * 8, abs=1e-4)
    assert {(row["varied"], row["setting"]) for row in sensitivity} == {
        *(("classifier", name) for name in ("words", "others", "morals")),
        *(("weighing", name) for name in ("posts", "scores")),
        *(("n", size) for size in ("5", "15")),
    }
    # The other classifier calls the same things by other names: nothing changes but chance.
    assert found["sensitivity"]["emotion"]["classifier_others"]["same_tendency"] == 1
    assert found["sensitivity"]["emotion"]["classifier_others"]["mean_change"] < 0.02
    floors = {row["setting"]: float(row["liberal"]) for row in sensitivity if (row["measure"], row["model"], row["steering"]) == ("emotion", "liberal", "floor")}
    assert floors["5"] < floors["15"]


def test_a_topic_with_too_few_posts_is_marked_and_has_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, monkeypatch, few="schools", sizes=[])
    found, (heat_map, *_) = run()
    assert found["base"]["none"]["emotion"]["topics"] == 2
    marked = [row for row in heat_map if row["note"] == "too few"]
    assert {row["topic"] for row in marked} == {"schools"}
    assert len(marked) == 2 * 5
    assert {row[name] for row in marked for name in ("alignment", "low", "high", "raw", "floor", "n")} == {""}


def test_where_all_topics_have_too_few_posts_the_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, monkeypatch, min_posts=1000, sizes=[])
    found, _ = run()
    assert found["base"]["none"]["moral"] == {"topics": 0}
    assert found["baseline"]["moral"] == {"topics": 0}


@pytest.mark.parametrize(
    ("changes", "problem"), [({"emotion": "morals"}, r"'morals' is no emotion classifier .*\(words, others\)"), ({"moral": "x"}, "'x' is no moral classifier")]
)
def test_a_classifier_of_another_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], problem: str) -> None:
    prepare(tmp_path, monkeypatch, **changes)
    with pytest.raises(InputError, match=problem):
        run()


def test_labels_of_other_parameters_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, monkeypatch)
    tables.write(Path("labels/words.parquet"), [{"id": "a", "labels": ["joy"], "scores": [1.0]}], tables.AFFECT)
    with pytest.raises(InputError, match=r"words\.parquet: has labels joy, but params\.yaml declares anger"):
        run()


def test_what_cannot_be_compared_is_not_changed() -> None:
    assert change({("m", "none"): {"topics": 0}}, {}) == {"models": 0}


def test_the_default_parameters_are_usable(in_root: None) -> None:
    settings = load("affect", Params)
    assert (settings.classifier("emotion"), settings.classifier("moral")) == ("emotions", "morals")
