from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.core import tables
from stages.core.errors import InputError
from stages.core.params import load, parse
from stages.data.label import Params, main, texts


def speech(name: str, text: str, status: str = "kept") -> dict[str, object]:
    return {"id": name, "model": "base", "steering": "none", "issue": "covid", "topic": "masking", "wording": 0, "repeat": 0, "text": text, "status": status}


def write(folder: Path) -> None:
    posts = [{"id": "p1", "text": "So glad of it", "status": "kept"}, {"id": "p2", "text": "glad", "status": "duplicate"}]
    tables.write(folder / "posts.parquet", posts, tables.DISCOURSE)
    tables.write(folder / "speech/base.parquet", [speech("s1", "I am afraid"), speech("s2", "", "empty")], tables.SPEECH)


def test_kept_posts_of_people_and_models_are_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    Path("words.yaml").write_text("joy: [glad]\nfear: [afraid]\n")
    chosen = {"kind": "lexicon", "measure": "emotion", "path": "words.yaml", "labels": ["joy", "fear"]}
    YAML().dump({"label": {"classifiers": {"words": chosen}}, "annotator": {"file": "a.gguf", "context": 64, "max_characters": 100}}, Path("params.yaml"))
    main("words", Path("words.yaml"), Path("posts.parquet"), Path("speech"), Path("labels/words.parquet"))
    rows = tables.read(Path("labels/words.parquet"), tables.AFFECT).to_pylist()
    assert {row["id"]: row["scores"] for row in rows} == {"p1": [0.5, 0], "s1": [0, 0.5]}
    assert rows[0]["labels"] == ["joy", "fear"]


def test_without_speech_nothing_is_labelled(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no table"):
        texts(tmp_path / "posts.parquet", tmp_path / "speech")


def test_the_kind_of_a_classifier_decides_which_settings_it_has() -> None:
    setting = {"measure": "moral", "path": "x", "positive": "1"}
    assert parse(Params, {"classifiers": {"a": {**setting, "kind": "checkpoint"}}}, "label").labels_of("a")[0] == "care"
    with pytest.raises(InputError, match=r"label\.classifiers\.a"):
        parse(Params, {"classifiers": {"a": {**setting, "kind": "lexicon"}}}, "label")


def test_the_default_classifiers_are_there(in_root: None) -> None:
    assert all(chosen.path.exists() for chosen in load("label", Params).classifiers.values())
