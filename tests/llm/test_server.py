"""Against a server that breaks on purpose, and against llama-cpp-python's own."""

import logging
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.core.workspace import state_folder
from stages.llm.cache import Cached
from stages.llm.connection import LONGEST_WAIT
from stages.llm.endpoint import Endpoint, Traffic
from stages.llm.interface import Choice, Completion, Message, Prompt, Sampling, choices, in_order
from stages.llm.llamacpp import LlamaCpp
from stages.llm.server import Server
from tests.llm.faulty_server import Body, Fault, FaultyServer

Connect = Callable[..., Server]
HOW = Sampling(max_tokens=5)
KEY = "sk-very-secret-0123456789"


def ask(text: str) -> Prompt:
    return Message("system", "Be brief."), Message("user", text)


PROMPTS = [ask(f"question {i}") for i in range(12)]


def texts(server: Server | Cached, prompts: list[Prompt] = PROMPTS) -> list[str]:
    return [answer.text for answer in in_order(server.generate(prompts, HOW), len(prompts))]


def expected(prompts: list[Prompt] = PROMPTS) -> list[str]:
    return [f"to {prompt[-1].content}" for prompt in prompts]


def until_fault(results: Iterator[tuple[int, Completion]]) -> tuple[dict[int, Completion], str]:
    """What came before the fault that must come, and its message."""
    found: dict[int, Completion] = {}
    with pytest.raises(InputError) as caught:
        for index, answer in results:
            assert index not in found
            found[index] = answer
    return found, str(caught.value)


# ---- what is sent and read


def test_answers_carry_usage_and_finish(faulty: FaultyServer, connect: Connect) -> None:
    faulty.finish = "length"
    assert dict(connect().generate(PROMPTS[:2], HOW)) == {
        0: Completion("to question 0", "length", prompt_tokens=10, completion_tokens=5),
        1: Completion("to question 1", "length", prompt_tokens=10, completion_tokens=5),
    }


def test_requests_hold_the_chat_and_the_sampling(faulty: FaultyServer, connect: Connect) -> None:
    list(connect().generate(PROMPTS[:1], Sampling(7, temperature=0.5, top_p=0.9, top_k=40, seed=3, stop=("\n",))))
    (body,) = faulty.requests
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "question 0"}]
    assert {name: body[name] for name in ("model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "stop")} == {
        "model": "m",
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.0,
        "stop": ["\n"],
    }


def test_openai_gets_only_what_it_knows(faulty: FaultyServer, connect: Connect) -> None:
    server = connect(dialect="openai")
    list(server.generate(PROMPTS[:1], HOW))
    assert faulty.requests[0].keys() == {"model", "messages", "temperature", "top_p", "seed", "max_completion_tokens"}
    with pytest.raises(InputError, match="top_k = 40"):
        server.generate(PROMPTS, Sampling(5, top_k=40))


def test_seeds_differ_by_prompt_repeat_and_seed_only(faulty: FaultyServer, connect: Connect) -> None:
    server = connect(concurrency=1)
    for prompt, seed, repeat in [(0, 1, 0), (0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1)]:
        list(server.generate([PROMPTS[prompt]], Sampling(5, 0.7, seed=seed), [repeat]))
    seeds = [body["seed"] for body in faulty.requests]
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 4


def test_an_answer_without_text_is_empty_and_one_without_usage_is_estimated(faulty: FaultyServer, connect: Connect) -> None:
    faulty.usage, faulty.text = None, lambda body: None if "0" in body["messages"][-1]["content"] else "ninechars"
    silent, spoken = in_order(connect().generate(PROMPTS[:2], HOW), 2)
    assert silent.text == ""
    assert spoken.completion_tokens == 3  # three bytes a token
    assert spoken.prompt_tokens == 3 + 8 + 4 + 8  # "Be brief." and "question 1", and eight tokens around each turn


def test_a_prompt_that_is_too_long_is_cut_at_a_sentence_and_counted(faulty: FaultyServer, connect: Connect) -> None:
    refusal = Fault(status=400, message="maximum context length is 100 tokens", code="context_length_exceeded")
    faulty.fails_for = lambda body: refusal if len(body["messages"][-1]["content"]) > 100 else None
    text = "This is a sentence. " * 12
    (answer,) = in_order(connect().generate([ask(text)], HOW), 1)
    assert 0 < len(answer.text) - len("to ") <= 100
    assert answer.text.endswith("sentence.")
    assert answer.cut == len(text) - (len(answer.text) - len("to "))


def test_a_prompt_without_room_for_its_last_turn_stops(faulty: FaultyServer, connect: Connect) -> None:
    faulty.always = Fault(status=400, message="exceeds the available context size")
    _, message = until_fault(connect().generate([ask("x" * 50)], HOW))
    assert "context size" in message


def test_what_the_content_filter_refuses_is_empty(faulty: FaultyServer, connect: Connect) -> None:
    refusal = Fault(status=400, message="blocked", code="content_filter")
    faulty.fails_for = lambda body: refusal if "question 1" in body["messages"][-1]["content"] else None
    server = connect()
    assert texts(server, PROMPTS[:3]) == ["to question 0", "", "to question 2"]
    assert in_order(server.choose([ask("question 1")], [["a", "b"]]), 1) == [Choice((0.5, 0.5), 0.0, 0)]


# ---- faults that pass

PASSING = {
    "500": Fault(status=500),
    "503": Fault(status=503),
    "408": Fault(status=408),
    "409": Fault(status=409),
    "429": Fault(status=429, headers={"Retry-After": "0.02"}),
    "drop": Fault("drop"),
    "reset": Fault("reset"),
    "truncated": Fault("truncated"),
    "no JSON": Fault("text"),
    "no choices": Fault("no choices"),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_faults_that_pass_lose_no_row_and_answer_none_twice(fault: Fault, faulty: FaultyServer, connect: Connect) -> None:
    faulty.faults.extend([fault, None, fault, fault])
    assert texts(connect(concurrency=4)) == expected()
    assert set(faulty.answered.values()) == {1}
    assert len(faulty.requests) == len(PROMPTS) + 3


def test_a_hang_ends_with_the_timeout(faulty: FaultyServer, connect: Connect) -> None:
    faulty.faults.extend([Fault("hang"), None, Fault("hang")])
    assert texts(connect(timeout=0.5)) == expected()
    assert set(faulty.answered.values()) == {1}


def test_all_faults_together(faulty: FaultyServer, connect: Connect) -> None:
    faulty.faults.extend([*PASSING.values(), None, *PASSING.values()])
    assert texts(connect(tries=len(PASSING) * 2 + 1)) == expected()
    assert set(faulty.answered.values()) == {1}


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(form: str, faulty: FaultyServer, connect: Connect) -> None:
    server = connect()
    until = (datetime.now(UTC) + timedelta(seconds=1.5)).replace(microsecond=0)
    faulty.faults.append(Fault(status=429, headers={"Retry-After": "0.3" if form == "seconds" else format_datetime(until, usegmt=True)}))
    assert texts(server, PROMPTS[:1]) == expected(PROMPTS[:1])
    first, second = faulty.times
    assert second >= (first + 0.3 if form == "seconds" else until.timestamp())


# ---- faults that stay


def test_a_server_that_stays_down_ends_the_run_with_what_is_kept(faulty: FaultyServer, connect: Connect) -> None:
    faulty.faults.extend([None] * 5)
    faulty.always = Fault(status=503, message="overloaded")
    found, message = until_fault(connect(concurrency=1, tries=3).generate(PROMPTS, HOW))
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert "HTTP 503: overloaded" in message
    assert "3 times" in message
    assert "5 of 12 answers came and are kept; `dvc repro` goes on" in message
    assert len(faulty.requests) == 5 + 3


def test_no_server_at_all(connect: Connect) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    server = connect(base_url=url, token_limit=100)
    _, message = until_fault(server.generate(PROMPTS, HOW))
    assert url in message
    assert "connection failed" in message
    assert "0 of 12" in message
    assert server.budget.spent == 0


STAYING = {
    401: (Fault(status=401), "needed. Set the environment variable OPENAI_API_KEY"),
    403: (Fault(status=403), "may not use the model 'm'"),
    404: (Fault(status=404), "usually ends in /v1"),
    429: (Fault(status=429, message="You exceeded your quota", code="insufficient_quota"), "Top it up"),
    400: (Fault(status=400, message="Unknown parameter: min_p"), "Unknown parameter: min_p"),
    503: (Fault(status=503, headers={"Retry-After": str(LONGEST_WAIT * 2)}), "left alone for 20 minutes"),
}


@pytest.mark.parametrize("status", STAYING)
def test_faults_that_stay_end_the_run_at_once_and_say_what_to_do(status: int, faulty: FaultyServer, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    faulty.always, advice = STAYING[status]
    _, message = until_fault(connect(concurrency=1).generate(PROMPTS, HOW))
    assert advice in message
    assert str(status) in message
    assert len(faulty.requests) == 1


def test_what_is_under_way_when_the_run_ends_is_still_received(faulty: FaultyServer, connect: Connect) -> None:
    faulty.delay = 0.3
    faulty.fails_for = lambda body: Fault(status=403) if "question 3" in body["messages"][-1]["content"] else None
    found, message = until_fault(connect(concurrency=4).generate(PROMPTS, HOW))
    assert found.keys() >= {0, 1, 2}
    assert 3 not in found
    assert f"{len(found)} of 12" in message


def test_after_a_stop_only_what_is_missing_is_asked(faulty: FaultyServer, connect: Connect, tmp_path: Path) -> None:
    faulty.faults.extend([None] * 7)
    faulty.always = Fault()
    cached = Cached(connect(concurrency=3), tmp_path / "responses.sqlite")
    with pytest.raises(InputError, match="of 12 answers"):
        texts(cached)
    cached.close()
    assert faulty.answered.total() == 7
    faulty.always = None
    again = Cached(connect(), tmp_path / "responses.sqlite")
    assert texts(again) == expected()
    again.close()
    assert set(faulty.answered.values()) == {1}


def test_results_may_be_left_and_the_server_closed(faulty: FaultyServer, connect: Connect) -> None:
    server = connect(concurrency=2)
    left = server.generate(PROMPTS, HOW)
    next(left)
    assert texts(server) == expected()
    server.close()
    left.close()
    server.close()


# ---- limits


def test_no_more_requests_at_once_than_allowed(faulty: FaultyServer, connect: Connect) -> None:
    faulty.delay = 0.05
    assert texts(connect(concurrency=3)) == expected()
    assert faulty.most_at_once == 3


def test_the_token_limit_is_not_passed(faulty: FaultyServer, connect: Connect) -> None:
    server = connect(concurrency=8, token_limit=100)  # 28 are set aside for a request, 15 are used
    found, message = until_fault(server.generate(PROMPTS, HOW))
    assert faulty.answered.total() == len(found) == 5  # a sixth would start at 75 and could end at 103
    assert server.budget.spent == 75
    assert "75 of 100 tokens" in message
    assert "5 of 12 answers" in message


def test_work_that_may_have_been_charged_counts_as_spent(faulty: FaultyServer, connect: Connect) -> None:
    faulty.faults.extend([Fault("drop"), Fault(status=500)])
    server = connect(token_limit=1000)
    texts(server, PROMPTS[:1])
    assert server.budget.spent == 28 + 0 + 15


# ---- the key


@pytest.mark.parametrize(
    "fault", [Fault(status=401, message=f"Incorrect key {KEY}"), Fault(status=500, message=f"crashed with {KEY}"), Fault("drop"), Fault(status=400, message=f"header Bearer {KEY}")]
)
def test_the_key_is_sent_and_found_nowhere_else(
    fault: Fault, faulty: FaultyServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("OWN_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    faulty.faults.append(None)
    faulty.always = fault
    server = connect(key_variable="OWN_KEY", concurrency=1)
    cached = Cached(server, tmp_path / "responses.sqlite")
    with pytest.raises(InputError) as caught:
        texts(cached)
    cached.close()
    assert faulty.keys == {f"Bearer {KEY}"}
    error: BaseException | None = caught.value
    while error:
        assert KEY not in repr(error)
        error = error.__cause__ or error.__context__
    assert KEY not in caplog.text + "".join(capfd.readouterr()) + server.fingerprint + repr(server.traffic)
    files = [file for folder in (tmp_path, state_folder("llm")) for file in folder.rglob("*") if file.is_file()]
    assert files
    assert not any(KEY.encode() in file.read_bytes() for file in files)


# ---- choosing

OPTIONS = ("Yes", "No")


def logs(**probabilities: float) -> dict[str, float]:
    return {token: float(np.log(probability)) for token, probability in probabilities.items()}


def choice(server: Server, options: tuple[str, ...] = OPTIONS) -> Choice:
    return in_order(server.choose(PROMPTS[:1], [options]), 1)[0]


def test_first_tokens_tell_options_apart(faulty: FaultyServer, connect: Connect) -> None:
    faulty.listed = logs(Yes=0.6, No=0.2, Well=0.1)
    found = choice(connect())
    assert found.probabilities == pytest.approx((0.75, 0.25))
    assert found.mass == pytest.approx(0.8)
    assert found.prompt_tokens == 10
    (body,) = faulty.requests
    assert {name: body[name] for name in ("max_tokens", "logprobs", "top_logprobs", "temperature")} == {"max_tokens": 1, "logprobs": True, "top_logprobs": 20, "temperature": 1.0}


def test_of_tokens_without_text_only_one_is_listed_and_gets_what_is_missing(faulty: FaultyServer, connect: Connect) -> None:
    faulty.listed = {"1": float(np.log(0.5)), "2": float(np.log(0.3))}
    faulty.listed_after = {"1": {"": float(np.log(0.001)), "0": float(np.log(0.1)), ".": float(np.log(0.1))}}  # another token without text had .799
    faulty.drawn = lambda body: ["1", "0"] if "grammar" in body else ["2"]
    assert choice(connect(), ("1", "2", "10")).probabilities == pytest.approx((0.4 / 0.75, 0.3 / 0.75, 0.05 / 0.75))


DEGREES = ("Strongly agree", "Strongly disagree", "Unsure")


def degrees(faulty: FaultyServer) -> None:
    """A model that says "Strongly" in six of ten answers, and goes on with " agree" in three of four of them."""
    faulty.listed = logs(Strongly=0.6, Unsure=0.3, Well=0.1)
    faulty.listed_after = {"Strongly": {" agree": float(np.log(0.75)), " dis": float(np.log(0.2))}}


def demanded(body: Body) -> list[str]:
    return ["Strongly", " agree"] if "grammar" in body else ["Unsure"]


def test_options_that_begin_alike_are_told_apart_by_the_next_token(faulty: FaultyServer, connect: Connect) -> None:
    degrees(faulty)
    faulty.drawn = demanded
    found = choice(connect(), DEGREES)
    assert found.probabilities == pytest.approx((0.45 / 0.87, 0.12 / 0.87, 0.3 / 0.87))
    assert found.mass == pytest.approx(0.87)
    first, second = faulty.requests
    assert "grammar" not in first
    assert '"Strongly"' in second["grammar"]
    assert second["messages"] == first["messages"]


def test_a_beginning_that_hardly_counts_costs_no_second_request(faulty: FaultyServer, connect: Connect) -> None:
    faulty.listed = logs(Unsure=0.9, Strongly=0.002)
    assert choice(connect(), DEGREES).probabilities == pytest.approx((0.001 / 0.902, 0.001 / 0.902, 0.9 / 0.902))
    assert len(faulty.requests) == 1


def test_a_cut_prompt_stays_cut_in_the_second_request(faulty: FaultyServer, connect: Connect) -> None:
    degrees(faulty)
    faulty.drawn = demanded
    refusal = Fault(status=400, message="maximum context length is 100 tokens", code="context_length_exceeded")
    faulty.fails_for = lambda body: refusal if len(body["messages"][-1]["content"]) > 100 else None
    (found,) = choices(connect(), [ask("This is a sentence. " * 12)], DEGREES)
    assert found.cut > 0
    refused = sum(len(body["messages"][-1]["content"]) > 100 for body in faulty.requests)
    assert len(faulty.requests) == refused + 2
    assert faulty.requests[-1]["messages"] == faulty.requests[-2]["messages"]


def test_a_server_that_cannot_be_told_how_to_begin_draws_until_the_probabilities_are_known(faulty: FaultyServer, connect: Connect) -> None:
    degrees(faulty)
    answers = iter([["Unsure"], ["Unsure"], ["Well"], ["Strongly", " dis", "agree"]])
    faulty.drawn = lambda _body: next(answers)
    assert choice(connect(votes=6), DEGREES).probabilities == pytest.approx((0.45 / 0.87, 0.12 / 0.87, 0.3 / 0.87))
    assert len({body["seed"] for body in faulty.requests}) == len(faulty.requests) == 4


def test_openai_draws_in_one_request_and_knows_no_grammar(faulty: FaultyServer, connect: Connect) -> None:
    degrees(faulty)
    faulty.drawn = lambda body: ["Strongly", " agree"] if body["seed"] % 3 == 0 else ["Unsure"]
    assert choice(connect(votes=6, dialect="openai"), DEGREES).probabilities == pytest.approx((0.45 / 0.87, 0.12 / 0.87, 0.3 / 0.87))
    assert [body.get("n", 1) for body in faulty.requests] == [1, 6]
    assert not any("grammar" in body for body in faulty.requests)


def strongly(body: Body) -> list[str]:
    return ["Strongly", " agree" if body["seed"] % 2 else " disagree"]


def counted(faulty: FaultyServer, votes: int) -> tuple[float, ...]:
    drawn = [body for body in faulty.requests if body["max_tokens"] > 1 and "grammar" not in body]
    assert len({body["seed"] for body in drawn}) == votes
    agreeing = sum(body["seed"] % 2 for body in drawn)
    return (agreeing + 1 / 3) / (votes + 1), (votes - agreeing + 1 / 3) / (votes + 1), 1 / 3 / (votes + 1)


def test_options_that_begin_alike_are_put_to_the_vote_where_only_first_tokens_are_listed(faulty: FaultyServer, connect: Connect) -> None:
    faulty.listed, faulty.drawn = logs(Strongly=0.9), strongly
    found = choice(connect(votes=6), DEGREES)
    assert found.probabilities == pytest.approx(counted(faulty, 6))
    assert found.mass == 1


def test_probabilities_of_constrained_answers_are_not_taken_for_those_of_free_ones(faulty: FaultyServer, connect: Connect) -> None:
    degrees(faulty)
    faulty.listed = logs(Strongly=1.0)
    faulty.drawn = lambda body: strongly(body) if "grammar" in body else ["Unsure"]
    found = choice(connect(votes=6), DEGREES)
    assert found.probabilities == pytest.approx((1 / 3 / 7, 1 / 3 / 7, (6 + 1 / 3) / 7))


@pytest.mark.parametrize(
    "refusal",
    [
        None,
        Fault(status=400, message="'logprobs' is not supported with this model"),
        Fault(status=500, message="logprobs is not supported for models created with logits_all=False"),
    ],
)
def test_votes_are_drawn_where_a_server_gives_no_log_probabilities(refusal: Fault | None, faulty: FaultyServer, connect: Connect) -> None:
    faulty.fails_for = lambda body: refusal if "logprobs" in body else None
    faulty.text = lambda _body: "Yes"
    assert choice(connect(votes=3)) == Choice((3.5 / 4, 0.5 / 4), 1.0, 10)
    assert len(faulty.requests) == 1 + 3


def test_openai_draws_all_votes_in_one_request(faulty: FaultyServer, connect: Connect) -> None:
    faulty.text = lambda _body: "No, never"
    assert choice(connect(votes=3, top_logprobs=0, dialect="openai")) == Choice((0.5 / 4, 3.5 / 4), 1.0, 10)
    assert [body["n"] for body in faulty.requests] == [3]


@pytest.mark.parametrize("options", [("Yes", "Yes"), ("Yes", "")])
def test_options_must_differ_and_not_be_empty(options: tuple[str, ...], connect: Connect) -> None:
    with pytest.raises(ValueError, match="differ"):
        connect().choose(PROMPTS, [options] * len(PROMPTS))


# ---- llama-cpp-python's server


ASKED = [
    (Message("system", "You answer with one word: Yes or No."), Message("user", question))
    for question in ("Is water wet?", "Is the sun cold?", "Do cats fly?", "Is Paris in France?", "Will it rain tomorrow?")
]

NUMBERS = tuple(map(str, range(21)))
COUNTED = [
    (
        Message("system", "You answer with one whole number from 0 to 20 and nothing else."),
        *(
            Message(role, said)
            for asked, answer in (("How many days has a week?", "7"), ("What is ten plus four?", "14"))
            for role, said in (("user", asked), ("assistant", answer))
        ),
        Message("user", question),
    )
    for question in ("How many months has a year?", "How many legs has a dog?", "What is six plus five?")
]


def test_a_real_server_agrees_with_the_same_model_in_process(real_server: str, base_model: Path) -> None:
    how = Sampling(max_tokens=8)
    with Server(Endpoint(base_url=real_server, model="smollm2"), Traffic(concurrency=2)) as server, LlamaCpp(base_model / "model.gguf", 4, 1024) as model:
        there, here = choices(server, ASKED, OPTIONS), choices(model, ASKED, OPTIONS)
        written, ours = in_order(server.generate(ASKED, how), len(ASKED)), in_order(model.generate(ASKED, how), len(ASKED))
        numbers, scored = choices(server, COUNTED, NUMBERS), choices(model, COUNTED, NUMBERS)
        (long,) = in_order(server.generate([(Message("user", "All is well. " * 500),)], how), 1)
    # products are rounded to BF16 in an order that depends on what is evaluated together: 0.03 is about the difference between two runs of llama.cpp itself
    np.testing.assert_allclose([found.probabilities for found in there], [found.probabilities for found in here], atol=0.05)
    np.testing.assert_allclose([found.mass for found in there], [found.mass for found in here], atol=0.05)
    assert [found.prompt_tokens for found in there] == [found.prompt_tokens for found in here]
    assert all(found.mass > 0.2 for found in numbers)
    np.testing.assert_allclose([found.probabilities for found in numbers], [found.probabilities for found in scored], atol=0.05)
    same = [a.text == b.text for a, b in zip(written, ours, strict=True)]
    assert sum(same) >= len(same) - 1
    assert written[0].completion_tokens == 8
    assert long.cut > 0
