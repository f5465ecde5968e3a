import multiprocessing
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import InputError
from stages.llm.cache import Cached
from stages.llm.interface import Choice, Completion, Message, Prompt, Sampling, in_order, several

HOW = Sampling(max_tokens=5)


def ask(text: str) -> Prompt:
    return (Message("user", text),)


PROMPTS = [ask("one"), ask("two"), ask("three")]


def texts(cached: Cached, prompts: Sequence[Prompt], sampling: Sampling = HOW, repeat: int = 0) -> list[str]:
    return [answer.text for answer in in_order(cached.generate(prompts, sampling, [repeat] * len(prompts)), len(prompts))]


class Echo:
    """Repeats the question; after ``limit`` answers it breaks."""

    fingerprint = "echo"

    def __init__(self, limit: int = 10**9) -> None:
        self.limit = limit
        self.asked: list[tuple[str, int]] = []

    def generate(self, prompts: Sequence[Prompt], _sampling: Sampling, repeats: Sequence[int] = ()) -> Iterator[tuple[int, Completion]]:
        for index, (prompt, repeat) in enumerate(zip(prompts, repeats or [0] * len(prompts), strict=True)):
            if index == self.limit:
                raise RuntimeError("the model broke")
            self.asked.append((prompt[-1].content, repeat))
            yield index, Completion(f"{prompt[-1].content} {repeat}", "stop", 1, 1)

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Iterator[tuple[int, Choice]]:
        for index, _ in enumerate(prompts):
            if index == self.limit:
                raise RuntimeError("the model broke")
            yield index, Choice(tuple(1 / len(options[index]) for _ in options[index]), 1.0, 1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "responses.sqlite"


@pytest.fixture
def opened() -> Iterator[Callable[..., Cached]]:
    """Open caches that are closed after the test."""
    caches: list[Cached] = []

    def make(model: Any, file: Path) -> Cached:
        caches.append(Cached(model, file))
        return caches[-1]

    yield make
    for cached in caches:
        cached.close()


def test_the_same_question_is_asked_once(fake_model: Any, file: Path, opened: Any) -> None:
    model = fake_model(texts=["a", "b", "c"])
    cached = opened(model, file)
    first = list(cached.generate(PROMPTS, HOW))
    assert dict(cached.generate(PROMPTS, HOW)) == dict(first)
    assert [answer.text for _, answer in first] == ["a", "b", "c"]
    assert model.history == PROMPTS


def test_only_what_is_missing_is_asked_and_answers_keep_their_places(fake_model: Any, file: Path, opened: Any) -> None:
    model = fake_model(texts=["b", "a", "c"])
    cached = opened(model, file)
    assert texts(cached, [PROMPTS[1]]) == ["b"]
    assert texts(cached, PROMPTS) == ["a", "b", "c"]
    assert model.history == [PROMPTS[1], PROMPTS[0], PROMPTS[2]]


def test_a_choice_is_asked_once_and_comes_back_equal(fake_model: Any, file: Path, opened: Any) -> None:
    model = fake_model(choices=[(0.1, 0.9), (1 / 3, 2 / 3)])
    cached = opened(model, file)
    first = dict(cached.choose(PROMPTS[:2], [("yes", "no")] * 2))
    assert dict(cached.choose(PROMPTS[:2], [("yes", "no")] * 2)) == first == {0: Choice((0.1, 0.9), 1.0, 1), 1: Choice((1 / 3, 2 / 3), 1.0, 1)}
    assert model.history == PROMPTS[:2]


@pytest.mark.parametrize(
    "other",
    [
        Sampling(max_tokens=6),
        Sampling(max_tokens=5, temperature=0.5),
        Sampling(max_tokens=5, top_p=0.5),
        Sampling(max_tokens=5, top_k=3),
        Sampling(max_tokens=5, seed=1),
        Sampling(max_tokens=5, stop=("\n",)),
    ],
)
def test_other_sampling_is_asked_anew(fake_model: Any, file: Path, opened: Any, other: Sampling) -> None:
    cached = opened(fake_model(texts=["first", "second"]), file)
    assert texts(cached, PROMPTS[:1]) == ["first"]
    assert texts(cached, PROMPTS[:1], other) == ["second"]
    assert texts(cached, PROMPTS[:1]) == ["first"]


def test_another_repeat_is_asked_anew(fake_model: Any, file: Path, opened: Any) -> None:
    cached = opened(fake_model(texts=["first", "second"]), file)
    assert [texts(cached, PROMPTS[:1], repeat=repeat) for repeat in (0, 1, 0, 1)] == [["first"], ["second"], ["first"], ["second"]]


def test_of_several_repeats_only_those_that_are_missing_are_asked(file: Path, opened: Any) -> None:
    model = Echo()
    cached = opened(model, file)
    assert texts(cached, PROMPTS[1:2], repeat=1) == ["two 1"]
    found = several(cached, PROMPTS[:2], HOW, 3)
    assert [[answer.text for answer in answers] for answers in found] == [["one 0", "one 1", "one 2"], ["two 0", "two 1", "two 2"]]
    assert model.asked == [("two", 1), ("one", 0), ("one", 1), ("one", 2), ("two", 0), ("two", 2)]


def test_another_model_is_asked_anew(fake_model: Any, file: Path, opened: Any) -> None:
    model = fake_model(texts=["first", "second"])
    cached = opened(model, file)
    assert texts(cached, PROMPTS[:1]) == ["first"]
    model.fingerprint = "with an adapter"
    assert cached.fingerprint == "with an adapter"
    assert texts(cached, PROMPTS[:1]) == ["second"]
    model.fingerprint = "fake"
    assert texts(cached, PROMPTS[:1]) == ["first"]


def test_other_options_or_their_order_are_asked_anew(fake_model: Any, file: Path, opened: Any) -> None:
    model = fake_model(choices=[(0.1, 0.9), (0.8, 0.2), (0.5, 0.5)])
    cached = opened(model, file)
    found = [dict(cached.choose(PROMPTS[:1], [options]))[0].probabilities for options in (("a", "b"), ("b", "a"), ("a", "c"), ("a", "b"))]
    assert found == [(0.1, 0.9), (0.8, 0.2), (0.5, 0.5), (0.1, 0.9)]


def test_options_of_ones_own_are_kept_with_their_prompt(file: Path, opened: Any) -> None:
    own = [("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d")]
    first = in_order(opened(Echo(), file).choose(PROMPTS, own), 3)
    assert [len(choice.probabilities) for choice in first] == [2, 3, 4]
    asked = opened(Echo(limit=1), file)  # would break at a second question
    again = in_order(asked.choose([*PROMPTS[::-1], PROMPTS[0]], [*own[::-1], own[2]]), 4)
    assert [len(choice.probabilities) for choice in again] == [4, 3, 2, 4]


def test_who_says_it_and_where_a_turn_ends_matter(fake_model: Any, file: Path, opened: Any) -> None:
    chats: list[Prompt] = [
        (Message("user", "a b"),),
        (Message("system", "a b"),),
        (Message("system", "a"), Message("user", " b")),
        (Message("system", "a "), Message("user", "b")),
    ]
    model = fake_model(texts=["1", "2", "3", "4"])
    assert texts(opened(model, file), chats) == ["1", "2", "3", "4"]
    assert texts(opened(model, file), chats) == ["1", "2", "3", "4"]
    assert model.history == chats


def test_answers_survive_closing_and_reopening(fake_model: Any, file: Path, opened: Any) -> None:
    cached = Cached(fake_model(texts=["naïve 🚢\n", "", "c"], choices=[(0.1, 0.9)]), file)
    written, chosen = dict(cached.generate(PROMPTS, HOW)), dict(cached.choose(PROMPTS[:1], [("yes", "no")]))
    cached.close()
    model = fake_model()
    again = opened(model, file)
    assert dict(again.generate(PROMPTS, HOW)) == written
    assert dict(again.choose(PROMPTS[:1], [("yes", "no")])) == chosen
    assert model.history == []


def damage_start(content: bytes) -> bytes:
    return b"no database at all " * (len(content) // 19)


def damage_middle(content: bytes) -> bytes:
    return content[:4096] + b"\xff" * (len(content) - 4096)


def damage_end(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [damage_start, damage_middle, damage_end])
def test_a_damaged_file_is_set_aside_and_work_goes_on(file: Path, opened: Any, capsys: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes]) -> None:
    prompts = [ask(f"question {n}") for n in range(500)]
    cached = Cached(Echo(), file)
    list(cached.generate(prompts, HOW))
    cached.close()
    broken = damage(file.read_bytes())
    file.write_bytes(broken)
    assert texts(opened(Echo(), file), prompts) == [f"question {n} 0" for n in range(500)]
    message = capsys.readouterr().err
    assert str(file) in message
    assert "damaged" in message
    assert [path.read_bytes() for path in file.parent.iterdir() if "damaged" in path.name and path.name in message] == [broken]


def test_a_file_that_another_process_is_using_is_not_set_aside(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    other = connect(file, isolation_level=None)
    other.execute("CREATE TABLE theirs (answer TEXT)")
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite3, "connect", lambda *arguments, **_: connect(*arguments, timeout=0))  # do not wait for the other
    with pytest.raises(InputError, match=file.name):
        Cached(Echo(), file).close()
    other.execute("COMMIT")
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    other.close()
    assert [path.name for path in file.parent.iterdir() if "damaged" in path.name] == []


def open_many(folder: Path, ready: Barrier) -> None:
    for n in range(60):
        ready.wait(60)
        Cached(Echo(), folder / f"{n}.sqlite").close()


def test_processes_that_open_a_new_file_at_once_share_it(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(3)
    openers = [spawn.Process(target=open_many, args=(tmp_path, ready)) for _ in range(3)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join(60)
    assert [opener.exitcode for opener in openers] == [0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir() if "damaged" in path.name) == []
    assert len(list(tmp_path.glob("*.sqlite"))) == 60


def test_another_process_can_write_while_an_answer_is_awaited(fake_model: Any, file: Path, opened: Any) -> None:
    answers = opened(fake_model(texts=["a", "b", "c"]), file).generate(PROMPTS, HOW)
    next(answers)
    other = sqlite3.connect(file, timeout=0)
    try:
        other.execute("BEGIN IMMEDIATE")
    finally:
        other.close()
    assert len(list(answers)) == 2


def write_many(file: Path, name: str, ready: Barrier) -> None:
    cached = Cached(Echo(), file)
    ready.wait(60)
    for first in range(0, 5000, 10):
        list(cached.generate([ask(f"{name} {n}") for n in range(first, first + 10)], HOW))
    cached.close()


def test_two_processes_that_write_ten_thousand_answers_at_once_lose_and_tear_none(fake_model: Any, file: Path, opened: Any) -> None:
    Cached(Echo(), file).close()
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(2)
    writers = [spawn.Process(target=write_many, args=(file, name, ready)) for name in ("left", "right")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    model = fake_model()
    model.fingerprint = Echo.fingerprint
    questions = [f"{name} {n}" for name in ("left", "right") for n in range(5000)]
    assert texts(opened(model, file), [ask(question) for question in questions]) == [f"{question} 0" for question in questions]
    assert model.history == []


def test_a_full_disk_ends_with_a_message_and_what_was_answered_before_is_kept(file: Path, opened: Any) -> None:
    prompts = [ask(f"question {n} {'word ' * 200}") for n in range(300)]
    cached = opened(Echo(), file)
    cached._store.execute("PRAGMA max_page_count = 60")  # SQLite's own way to have no room
    given = list[int]()
    with pytest.raises(InputError, match=r"responses\.sqlite: .*disk is full"):
        given.extend(index for index, _ in cached.generate(prompts, HOW))
    assert 10 < len(given) < 300
    again = opened(Echo(), file)
    assert texts(again, prompts) == [f"{prompt[-1].content} 0" for prompt in prompts]
    assert again.hits == len(given)


def test_written_answers_before_a_failure_are_kept(fake_model: Any, file: Path, opened: Any) -> None:
    cached = Cached(Echo(limit=2), file)
    with pytest.raises(RuntimeError, match="broke"):
        list(cached.generate(PROMPTS, HOW))
    cached.close()
    model = fake_model(texts=["asked anew"])
    model.fingerprint = Echo.fingerprint
    assert texts(opened(model, file), PROMPTS) == ["one 0", "two 0", "asked anew"]
    assert model.history == PROMPTS[2:]


def test_choices_before_a_failure_are_kept(fake_model: Any, file: Path, opened: Any) -> None:
    cached = Cached(Echo(limit=2), file)
    with pytest.raises(RuntimeError, match="broke"):
        list(cached.choose(PROMPTS, [("yes", "no")] * 3))
    cached.close()
    model = fake_model(choices=[(0.9, 0.1)])
    model.fingerprint = Echo.fingerprint
    found = in_order(opened(model, file).choose(PROMPTS, [("yes", "no")] * 3), 3)
    assert [choice.probabilities for choice in found] == [(0.5, 0.5), (0.5, 0.5), (0.9, 0.1)]
    assert model.history == PROMPTS[2:]


def test_the_default_file_lies_with_the_kept_state(fake_model: Any) -> None:
    cached = Cached(fake_model())
    cached.close()
    assert cached.file == Path(os.environ["PLUMBLINE_STATE"]) / "llm" / "responses.sqlite"
    assert cached.file.is_file()


def test_a_local_model_answers_from_the_cache_what_it_was_asked_before(base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.llm.local import measured_model

    (tmp_path / "params.yaml").write_text("runtime: {sequences: 1, micro_batch: 1, device: cpu}\n")
    monkeypatch.chdir(tmp_path)
    with measured_model(base_model / "model.gguf", 256, "test") as (_, model):
        (first,) = model.generate(PROMPTS[:1], HOW)
    store = sqlite3.connect(Path(os.environ["PLUMBLINE_STATE"]) / "llm" / "responses.sqlite")
    store.execute("""UPDATE answers SET answer = '{"text": "from the cache", "finish": "stop", "prompt_tokens": 1, "completion_tokens": 1}'""")
    store.commit()
    store.close()
    with measured_model(base_model / "model.gguf", 256, "test") as (engine, model):
        ((_, kept),) = model.generate(PROMPTS[:1], HOW)
        assert dict(engine.generate(PROMPTS[:1], HOW)) == dict([first])
    assert kept.text == "from the cache"


def test_results_in_any_order_come_back_in_order() -> None:
    assert in_order(iter([(2, "c"), (0, "a"), (1, "b")]), 3) == ["a", "b", "c"]


def test_a_result_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError):
        in_order(iter([(0, "a"), (2, "c")]), 3)
