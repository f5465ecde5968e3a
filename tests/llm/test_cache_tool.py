import gzip
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import InputError
from stages.llm import cache_tool
from stages.llm.cache import Cached, connect
from stages.llm.interface import Message, Sampling

HOW = Sampling(8)
PROMPTS = [(Message("user", text),) for text in ("x", "y", "z")]


@pytest.fixture
def store(fake_model: Any, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    cached = Cached(fake_model(["a", "b", "c"]), tmp_path / "c.sqlite")
    list(cached.generate(PROMPTS, HOW))
    cached.close()
    opened = connect(tmp_path / "c.sqlite")
    yield opened
    opened.close()


def count(store: sqlite3.Connection) -> int:
    return int(store.execute("SELECT count(*) FROM answers").fetchone()[0])


def test_show_counts_answers_by_model(store: sqlite3.Connection, tmp_path: Path) -> None:
    first, second = cache_tool.show(store, tmp_path / "c.sqlite").splitlines()
    assert "3 answers" in first
    assert second.split() == ["3", "answers", "of", "model", "fake,", "the", "last", "of", time.strftime("%Y-%m-%d", time.gmtime())]


def test_prune_deletes_what_is_older(store: sqlite3.Connection) -> None:
    store.execute("UPDATE answers SET asked = asked - 10 * 86400 WHERE key = (SELECT min(key) FROM answers)")
    assert cache_tool.prune(store, 10.5, time.time()) == 0
    assert cache_tool.prune(store, 9.5, time.time()) == 1
    assert count(store) == 2


def test_an_export_answers_in_another_place(store: sqlite3.Connection, fake_model: Any, tmp_path: Path) -> None:
    assert cache_tool.export(store, tmp_path / "e.gz") == 3
    other = connect(tmp_path / "other.sqlite")
    assert cache_tool.load(other, tmp_path / "e.gz") == (3, 3)
    assert cache_tool.load(other, tmp_path / "e.gz") == (0, 3)
    other.close()
    cached = Cached(fake_model([]), tmp_path / "other.sqlite")
    assert {answer.text for _, answer in cached.generate(PROMPTS, HOW)} == {"a", "b", "c"}
    cached.close()


def test_exports_of_the_same_answers_are_the_same_file(store: sqlite3.Connection, tmp_path: Path) -> None:
    cache_tool.export(store, tmp_path / "one.gz")
    cache_tool.export(store, tmp_path / "two.gz")
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


def test_what_is_there_already_stays(store: sqlite3.Connection, tmp_path: Path) -> None:
    cache_tool.export(store, tmp_path / "e.gz")
    store.execute("""UPDATE answers SET answer = '{"text": "newer"}'""")
    assert cache_tool.load(store, tmp_path / "e.gz") == (0, 3)
    assert {row[0] for row in store.execute("SELECT answer FROM answers")} == {'{"text": "newer"}'}


def test_a_broken_export_names_the_line_and_changes_nothing(store: sqlite3.Connection, tmp_path: Path) -> None:
    cache_tool.export(store, tmp_path / "e.gz")
    lines = gzip.decompress((tmp_path / "e.gz").read_bytes()).decode().splitlines()
    broken = json.loads(lines[1])
    broken["key"] = "short"
    (tmp_path / "e.gz").write_bytes(gzip.compress("\n".join([lines[0], json.dumps(broken)]).encode()))
    other = connect(tmp_path / "other.sqlite")
    with pytest.raises(InputError, match=r"e\.gz: line 2 .*key"):
        cache_tool.load(other, tmp_path / "e.gz")
    assert count(other) == 0
    other.close()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_half_export_is_refused_and_changes_nothing(store: sqlite3.Connection, tmp_path: Path, share: float) -> None:
    cache_tool.export(store, tmp_path / "e.gz")
    whole = (tmp_path / "e.gz").read_bytes()
    (tmp_path / "e.gz").write_bytes(whole[: int(len(whole) * share)] or b"no gzip")
    other = connect(tmp_path / "other.sqlite")
    with pytest.raises(InputError, match=r"e\.gz: is no complete export"):
        cache_tool.load(other, tmp_path / "e.gz")
    assert count(other) == 0
    other.close()


def test_the_command_line_works_on_the_repositorys_cache(fake_model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cached = Cached(fake_model(["a", "b", "c"]))
    list(cached.generate(PROMPTS, HOW))
    cached.close()
    for arguments, said in (
        (["show"], "3 answers"),
        (["export", str(tmp_path / "e.gz")], "3 answers written"),
        (["prune", "-1"], "3 answers deleted"),
        (["import", str(tmp_path / "e.gz")], "3 of 3"),
    ):
        cache_tool.main(arguments)
        assert said in capsys.readouterr().out


def test_a_missing_file_ends_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cache_tool.main(["import", str(tmp_path / "absent.gz")])
    assert stopped.value.code == 2
    assert "absent.gz: there is no such file" in capsys.readouterr().err
