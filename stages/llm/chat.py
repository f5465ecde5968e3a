"""Requests to and replies from ``/chat/completions``, the interface that OpenAI, vLLM, llama-server and others share."""

import json
import math
from collections.abc import Sequence
from heapq import nlargest
from typing import Any, Literal

import pydantic

from stages.core.files import short_hash
from stages.llm.endpoint import Endpoint
from stages.llm.interface import Completion, Prompt, Sampling

Body = dict[str, Any]
"A request, as JSON."
BYTES_PER_TOKEN = 3
"of UTF-8: English has four and more, so that estimates are generous"
TURN_TOKENS = 8
"of a chat template, around each turn"


class _Model(pydantic.BaseModel):
    """A part of a reply; what is not read here is ignored."""

    model_config = pydantic.ConfigDict(frozen=True)


class _Message(_Model):
    content: str | None = None
    refusal: str | None = None


class _Token(_Model):
    token: str
    logprob: float | None = None


class _Position(_Model):
    token: str = ""
    top_logprobs: list[_Token] = []

    @property
    def likeliest(self) -> list[tuple[str, float]]:
        return [(one.token, math.exp(min(one.logprob, 0.0))) for one in self.top_logprobs if one.logprob is not None and not math.isnan(one.logprob)]


class _LogProbabilities(_Model):
    content: list[_Position] | None = None


class _Answer(_Model):
    message: _Message
    finish_reason: str | None = None
    logprobs: _LogProbabilities | None = None

    @property
    def text(self) -> str:
        return self.message.content or self.message.refusal or ""


class _Usage(_Model):
    prompt_tokens: int
    completion_tokens: int = 0


class Reply(_Model):
    """What is read of a reply."""

    choices: list[_Answer] = pydantic.Field(min_length=1)
    usage: _Usage | None = None

    @property
    def texts(self) -> list[str]:
        """All answers."""
        return [answer.text for answer in self.choices]

    def listed(self, n: int) -> dict[str, list[tuple[str, float]]]:
        """The ``n`` likeliest tokens, with their probabilities, after each beginning of each answer, blanks before it aside; empty if the server gives none."""
        found: dict[str, list[tuple[str, float]]] = {}
        for answer in self.choices:
            beginning = ""
            for position in (answer.logprobs and answer.logprobs.content) or []:
                if position.likeliest:
                    found.setdefault(beginning, _whole(nlargest(n, position.likeliest, key=lambda one: one[1]), n))  # llama-cpp-python adds the token it drew
                beginning = (beginning + position.token).lstrip()
        return found

    def prompt_tokens(self, body: Body) -> int:
        """As reported, or else estimated."""
        return self.usage.prompt_tokens if self.usage else _prompt_tokens(body)

    def tokens(self, body: Body) -> int:
        """Prompt and completion tokens as reported, or else the most that can have been used."""
        return self.usage.prompt_tokens + self.usage.completion_tokens if self.usage else most_tokens(body)

    def completion(self, body: Body, cut: int) -> Completion:
        """The first answer; one that the server withheld is empty."""
        answer = self.choices[0]
        finish: Literal["stop", "length"] = "length" if answer.finish_reason == "length" else "stop"
        written = self.usage.completion_tokens if self.usage else math.ceil(len(answer.text.encode()) / BYTES_PER_TOKEN)
        return Completion(answer.text, finish, self.prompt_tokens(body), written, cut)


def _whole(listed: list[tuple[str, float]], n: int) -> list[tuple[str, float]]:
    """Give what is missing to the token without text.

    llama-cpp-python lists tokens by their text, and so only the least likely of those that have none, such as the two that end a chat and a document.
    """
    left = 1 - sum(probability for token, probability in listed if token)
    return [(token, probability if token else max(probability, left)) for token, probability in listed] if len(listed) < n else listed


def writing(endpoint: Endpoint, sampling: Sampling, repeat: int, prompt: Prompt) -> Body:
    """Ask for an answer. The seed depends on that of ``sampling``, on the repeat and on the prompt."""
    body = _body(endpoint, prompt, sampling.max_tokens, sampling.temperature, (sampling.seed, repeat)) | {"top_p": sampling.top_p}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if not endpoint.speaks_openai:
        body["top_k"] = sampling.top_k
    return body


def listing(endpoint: Endpoint, beginning: str, prompt: Prompt) -> Body:
    """Ask for the likeliest tokens of an answer: the first ones, or those after a ``beginning``.

    The beginning is demanded by a grammar, which servers built on llama.cpp know and others pass over. Some servers divide by the temperature before they report, hence 1.
    """
    if not beginning:
        return _listed(endpoint, _body(endpoint, prompt, 1, 1.0, ()))
    body = _body(endpoint, prompt, _most_tokens_of(beginning) + 1, 1.0, ("after", beginning))
    return _listed(endpoint, body) | {"grammar": f"root ::= [ \\n]? {json.dumps(beginning, ensure_ascii=False)} [^\\x00]+"}


def voting(endpoint: Endpoint, options: Sequence[str], cast: int, prompt: Prompt, *, listed: bool) -> Body:
    """Ask for votes after ``cast`` ones: all that are missing at OpenAI, which counts the prompt once, and one at a time elsewhere.

    With ``listed``, also for the likeliest tokens at each place of them.
    """
    body = _body(endpoint, prompt, max(map(_most_tokens_of, options)) + 3, 1.0, ("vote", cast)) | {"top_p": 1.0}
    if endpoint.speaks_openai:
        body["n"] = endpoint.votes - cast
    return _listed(endpoint, body) if listed else body


def _listed(endpoint: Endpoint, body: Body) -> Body:
    return body | {"top_p": 1.0, "logprobs": True, "top_logprobs": endpoint.top_logprobs}


def _most_tokens_of(text: str) -> int:
    """Upper estimate of the tokens in a short text, to bound an answer's length."""
    return len(text.encode()) // 2 + 1


def most_tokens(body: Body) -> int:
    """Upper estimate of the prompt and completion tokens that a request uses."""
    return _prompt_tokens(body) + int(body.get("n", 1)) * int(body.get("max_tokens") or body["max_completion_tokens"])


def _body(endpoint: Endpoint, prompt: Prompt, length: int, temperature: float, seed: tuple[object, ...]) -> Body:
    messages = [{"role": turn.role, "content": turn.content} for turn in prompt]
    body = {"model": endpoint.model, "messages": messages, "temperature": temperature, "seed": int(short_hash(*seed, json.dumps(messages))[:7], 16)}
    if endpoint.speaks_openai:
        return body | {"max_completion_tokens": length}
    return body | {"max_tokens": length, "top_k": 0, "min_p": 0.0}


def _prompt_tokens(body: Body) -> int:
    return sum(math.ceil(len(turn["content"].encode()) / BYTES_PER_TOKEN) + TURN_TOKENS for turn in body["messages"])
