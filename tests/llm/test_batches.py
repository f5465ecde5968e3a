"""Batches are handed to the server that breaks on purpose, and found again after what ends a process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.core.workspace import state_folder
from stages.llm import batches
from stages.llm.batch_records import KEPT_SECONDS
from stages.llm.cache import Cached
from stages.llm.interface import Message, Prompt, Sampling, in_order
from stages.llm.server import Server
from tests.llm.faulty_server import Body, Fault, FaultyServer

Connect = Callable[..., Server]
HOW = Sampling(max_tokens=5)
ROOT = Path(__file__).parents[2]


def ask(text: str) -> Prompt:
    return (Message("user", text),)


PROMPTS = [ask(f"question {i}") for i in range(12)]


def texts(server: Server | Cached, prompts: list[Prompt] = PROMPTS) -> list[str]:
    return [answer.text for answer in in_order(server.generate(prompts, HOW), len(prompts))]


def expected(prompts: list[Prompt] = PROMPTS) -> list[str]:
    return [f"to {prompt[-1].content}" for prompt in prompts]


def records() -> list[Path]:
    return sorted(state_folder("llm").glob("batches/*/*.json"))


def content(body: Body) -> str:
    return str(body["messages"][-1]["content"])


def test_all_requests_go_in_one_batch(faulty: FaultyServer, connect: Connect, capsys: pytest.CaptureFixture[str]) -> None:
    server = connect(batch_api=True)
    assert texts(server) == expected()
    assert len(faulty.batches) == 1
    assert not faulty.requests
    assert server.budget.spent == 12 * 15
    assert "batch-0: 12 requests submitted" in capsys.readouterr().err


def test_requests_that_fail_alone_are_asked_singly(faulty: FaultyServer, connect: Connect) -> None:
    faulty.fails_in_batch = lambda body: content(body) in ("question 3", "question 7")
    assert texts(connect(batch_api=True)) == expected()
    assert sorted(map(content, faulty.requests)) == ["question 3", "question 7"]
    assert set(faulty.answered.values()) == {1}


def test_equal_requests_are_sent_once(faulty: FaultyServer, connect: Connect) -> None:
    prompts = [ask("same"), ask("other"), ask("same")]
    assert texts(connect(batch_api=True), prompts) == expected(prompts)
    assert faulty.answered == {"same": 1, "other": 1}


def test_many_requests_are_spread_over_batches(faulty: FaultyServer, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "REQUESTS", 5)
    assert texts(connect(batch_api=True)) == expected()
    assert sorted(len(batch.lines) for batch in faulty.batches.values()) == [2, 5, 5]


def test_options_are_chosen_by_batch_and_the_undecided_put_to_the_vote(faulty: FaultyServer, connect: Connect) -> None:
    faulty.text = lambda _body: "Yes"
    found = in_order(connect(batch_api=True, votes=2).choose(PROMPTS[:2], [("Yes", "No")] * 2), 2)
    assert [choice.probabilities for choice in found] == [pytest.approx((2.5 / 3, 0.5 / 3))] * 2
    assert len(faulty.batches["batch-0"].lines) == 2
    assert len(faulty.requests) == 2 * 2


def test_votes_of_one_request_go_in_the_batch(faulty: FaultyServer, connect: Connect) -> None:
    faulty.text = lambda _body: "No"
    found = in_order(connect(batch_api=True, votes=2, top_logprobs=0, dialect="openai").choose(PROMPTS[:2], [("Yes", "No")] * 2), 2)
    assert [choice.probabilities for choice in found] == [pytest.approx((0.5 / 3, 2.5 / 3))] * 2
    assert not faulty.requests


@pytest.mark.parametrize("fault", [Fault(status=500), Fault("drop"), Fault("truncated"), Fault("text")], ids=lambda fault: fault.kind)
@pytest.mark.parametrize("step", range(5), ids=["upload", "submit", "first poll", "second poll", "download"])
def test_faults_that_pass_are_waited_out_at_each_step(step: int, fault: Fault, faulty: FaultyServer, connect: Connect) -> None:
    faulty.faults_elsewhere.extend([*[None] * step, fault])
    assert texts(connect(batch_api=True)) == expected()
    assert len(faulty.batches) == 1
    assert set(faulty.answered.values()) == {1}


def test_a_submission_whose_reply_is_lost_is_not_repeated(faulty: FaultyServer, connect: Connect) -> None:
    faulty.faults_elsewhere.extend([None, Fault("lost")])
    assert texts(connect(batch_api=True)) == expected()
    assert len(faulty.batches) == 1


def test_a_batch_that_was_submitted_just_before_the_end_is_found_by_name(faulty: FaultyServer, connect: Connect) -> None:
    faulty.faults_elsewhere.extend([None, Fault("lost")])
    with pytest.raises(InputError, match="connection failed"):
        texts(connect(batch_api=True, tries=1))
    assert json.loads(records()[0].read_text())["batch"] is None
    assert texts(connect(batch_api=True)) == expected()
    assert len(faulty.batches) == 1


def test_a_record_of_a_batch_that_was_never_submitted_is_dropped(faulty: FaultyServer, connect: Connect) -> None:
    faulty.faults_elsewhere.extend([None, Fault(status=500)])
    with pytest.raises(InputError, match="HTTP 500"):
        texts(connect(batch_api=True, tries=1))
    assert not faulty.batches
    assert texts(connect(batch_api=True)) == expected()
    assert len(faulty.batches) == 1


KILLED = """
import sys
from pathlib import Path
from stages.llm.cache import Cached
from stages.llm.endpoint import Endpoint, Traffic
from stages.llm.interface import Message, Sampling
from stages.llm.server import Server
server = Server(Endpoint(base_url=sys.argv[1], model="m"), Traffic(backoff=0.01, batch_api=True, timeout=5.0))
for index, answer in Cached(server).generate([(Message("user", f"question {i}"),) for i in range(12)], Sampling(max_tokens=5)):
    print(index, flush=True)
    if len(sys.argv) > 2:
        sys.stdin.read()
"""


@pytest.mark.parametrize("when", ["waiting", "reading"])
def test_a_batch_is_found_again_after_a_kill(when: str, faulty: FaultyServer, connect: Connect) -> None:
    faulty.polls_needed = 2 if when == "reading" else 10**9
    command = [sys.executable, "-c", KILLED, faulty.url, *(["slowly"] if when == "reading" else [])]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if when == "reading":
            assert process.stdout
            assert process.stdout.readline()
        else:
            while not any(batch.polls for batch in faulty.batches.values()):
                assert process.poll() is None
                time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    if when == "waiting":
        faulty.polls_needed = faulty.batches["batch-0"].polls + 3
    again = Cached(connect(batch_api=True))
    assert texts(again) == expected()
    again.close()
    assert len(faulty.batches) == 1
    assert not faulty.requests
    assert set(faulty.answered.values()) == {1}


def test_a_grown_corpus_submits_only_what_is_new(faulty: FaultyServer, connect: Connect) -> None:
    assert texts(connect(batch_api=True), PROMPTS[:8]) == expected(PROMPTS[:8])
    assert texts(connect(batch_api=True)) == expected()
    assert [len(batch.lines) for batch in faulty.batches.values()] == [8, 4]


def test_an_expired_batch_gives_what_it_has_and_the_next_run_submits_the_rest(faulty: FaultyServer, connect: Connect, tmp_path: Path) -> None:
    faulty.end = "expired"
    cached = Cached(connect(batch_api=True), tmp_path / "responses.sqlite")
    with pytest.raises(InputError, match="ended as 'expired' with 6 of 12 answers.*6 of 12 answers came and are kept"):
        texts(cached)
    faulty.end = "completed"
    assert texts(cached) == expected()
    cached.close()
    assert [len(batch.lines) for batch in faulty.batches.values()] == [12, 6]
    assert set(faulty.answered.values()) == {1}


def test_without_a_cache_both_batches_are_found_again(faulty: FaultyServer, connect: Connect) -> None:
    faulty.end = "expired"
    with pytest.raises(InputError):
        texts(connect(batch_api=True))
    faulty.end = "completed"
    for _ in range(3):
        assert texts(connect(batch_api=True)) == expected()
    assert [len(batch.lines) for batch in faulty.batches.values()] == [12, 6]


def test_a_batch_that_the_server_refuses_ends_the_run_with_its_reason(faulty: FaultyServer, connect: Connect) -> None:
    faulty.end = "failed"
    with pytest.raises(InputError, match="'failed' with 0 of 12 answers \\(too many tokens enqueued\\)"):
        texts(connect(batch_api=True))
    faulty.end = "completed"
    faulty.faults_elsewhere.extend([None, Fault("lost")])  # the batch that failed must not pass for the one that is submitted now
    assert texts(connect(batch_api=True)) == expected()
    assert len(faulty.batches) == 2


def test_a_server_without_batches_is_named(faulty: FaultyServer, connect: Connect) -> None:
    faulty.faults_elsewhere.append(Fault(status=404))
    with pytest.raises(InputError, match="has no Batch API. Set batch_api to false"):
        texts(connect(batch_api=True))


def test_a_batch_that_is_gone_is_submitted_again(faulty: FaultyServer, connect: Connect) -> None:
    texts(connect(batch_api=True))
    faulty.batches.clear()
    assert texts(connect(batch_api=True)) == expected()
    assert len(faulty.batches) == 1


def test_old_and_damaged_records_do_no_harm(faulty: FaultyServer, connect: Connect) -> None:
    texts(connect(batch_api=True))
    (record,) = records()
    long_ago = time.time() - KEPT_SECONDS - 1
    os.utime(record, (long_ago, long_ago))
    record.with_name("damaged.json").write_text("{")
    assert texts(connect(batch_api=True), PROMPTS[:1]) == expected(PROMPTS[:1])
    assert not record.exists()
    assert len(faulty.batches) == 2


def test_a_batch_holds_no_more_than_the_token_limit_allows(faulty: FaultyServer, connect: Connect) -> None:
    server = connect(batch_api=True, token_limit=110)  # 17 are set aside for a request (4 + 8 for the prompt, 5 for the answer), 15 are used
    found = []
    with pytest.raises(InputError, match="105 of 110 tokens are used, and the next request may take 17.*7 of 12"):
        for index, _ in server.generate(PROMPTS, HOW):
            found.append(index)
    assert sorted(found) == list(range(7))
    assert server.budget.spent == 7 * 15
    assert [len(batch.lines) for batch in faulty.batches.values()] == [6, 1]


def test_the_limit_holds_for_requests_that_are_repeated_singly(faulty: FaultyServer, connect: Connect) -> None:
    faulty.fails_in_batch = lambda _body: True
    server = connect(batch_api=True, token_limit=12 * 17)
    assert texts(server) == expected()
    assert server.budget.spent == 12 * 15
