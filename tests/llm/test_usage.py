from pathlib import Path
from typing import Any

import pytest

from stages.core import tables
from stages.core.files import sha256
from stages.llm.cache import Cached
from stages.llm.interface import Message, Prompt, Sampling
from stages.llm.usage import Metered, Usage

HOW = Sampling(8)


def ask(text: str) -> Prompt:
    return (Message("user", text),)


def metered(model: Any, file: Path) -> Metered:
    return Metered(Cached(model, file), "test")


def test_answers_and_their_tokens_are_counted(fake_model: Any, tmp_path: Path) -> None:
    model = metered(fake_model(["a", "b"], [(0.5, 0.5)]), tmp_path / "c.sqlite")
    assert len(list(model.generate([ask("x"), ask("y")], HOW))) == 2
    assert len(list(model.choose([ask("z")], [("yes", "no")]))) == 1
    assert model.usage == Usage(answers=3, prompt_tokens=3, completion_tokens=2, cut=0)


def test_equal_runs_count_the_same_whatever_the_cache_held(fake_model: Any, tmp_path: Path) -> None:
    first = metered(fake_model(["a", "b"]), tmp_path / "c.sqlite")
    list(first.generate([ask("x"), ask("y")], HOW))
    second = metered(fake_model([]), tmp_path / "c.sqlite")
    list(second.generate([ask("x"), ask("y")], HOW))
    assert second.model.hits == 2
    assert second.usage == first.usage
    prompt = tmp_path / "p.yaml"
    prompt.write_text("x")
    assert second.provenance(prompt) == first.provenance(prompt)


def test_the_end_says_how_much_came_from_the_cache(fake_model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list(metered(fake_model(["a"]), tmp_path / "c.sqlite").generate([ask("x")], HOW))
    model = metered(fake_model(["b"]), tmp_path / "c.sqlite")
    list(model.generate([ask("x"), ask("y")], HOW))
    model.close()
    assert capsys.readouterr().err.endswith("test: 2 answers, 1 of them from the response cache\n")


def test_a_prompt_that_stands_twice_in_a_batch_is_asked_once(fake_model: Any, tmp_path: Path) -> None:
    fake = fake_model(["a", "b"])
    found = dict(metered(fake, tmp_path / "c.sqlite").generate([ask("x"), ask("y"), ask("x")], HOW))
    assert [found[i].text for i in range(3)] == ["a", "b", "a"]
    assert len(fake.history) == 2


def test_a_table_keeps_where_its_answers_came_from(fake_model: Any, tmp_path: Path) -> None:
    model = metered(fake_model(["a"]), tmp_path / "c.sqlite")
    list(model.generate([ask("x")], HOW))
    prompt = tmp_path / "p.yaml"
    prompt.write_text("system: x")
    tables.write(tmp_path / "t.parquet", [], tables.INSTRUCTIONS, model.provenance(prompt))
    assert tables.provenance(tmp_path / "t.parquet") == {
        "model": "fake",
        "prompt": sha256(prompt)[:16],
        "answers": 1,
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "cut": 0,
    }
