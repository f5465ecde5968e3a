"""Parameters of a model behind an OpenAI-compatible server: what it is asked, and how."""

import os
import re
from typing import Literal
from urllib.parse import urlsplit

import pydantic

from stages.core.errors import InputError
from stages.core.files import short_hash
from stages.core.params import Section

VERSION = "chat completions 2"
"Part of every fingerprint: to be changed with whatever changes answers in ``server``, ``chat`` and ``naming``."


class Endpoint(Section):
    """Which model answers and what it is asked: all that can change an answer, and nothing else."""

    base_url: str
    "up to and with /v1, for example https://api.openai.com/v1 or http://localhost:8000/v1"
    model: str
    "its name there"
    dialect: Literal["openai", "extended"] | None = None
    """openai: ``max_completion_tokens`` and several answers a request, no ``top_k``; extended: ``max_tokens``, ``top_k`` and ``min_p``, as vLLM and llama.cpp
    have them. By default openai at openai.com and extended elsewhere."""
    top_logprobs: int = pydantic.Field(default=20, ge=0, le=20)
    "tokens whose log-probabilities are asked for to choose among options; 0: the server gives none, options are put to the vote at once"
    votes: int = pydantic.Field(default=10, ge=1, le=128)
    "answers that are drawn, at most, to choose among options where log-probabilities cannot tell; higher: finer shares, more tokens"

    @pydantic.field_validator("base_url")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is no address; write it like https://api.openai.com/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold neither a name, a password nor a query; keys belong into the environment")
        return value.rstrip("/")

    @property
    def speaks_openai(self) -> bool:
        """Whether requests keep to what OpenAI itself accepts."""
        host = urlsplit(self.base_url).hostname or ""
        return (self.dialect or ("openai" if host == "openai.com" or host.endswith(".openai.com") else "extended")) == "openai"

    @property
    def fingerprint(self) -> str:
        """Hash of all that can change an answer."""
        return short_hash(VERSION, self.base_url, self.model, self.speaks_openai, self.top_logprobs, self.votes)


class Traffic(Section):
    """How a server is asked: speed, patience and spending, which change no answer."""

    key_variable: str = "OPENAI_API_KEY"
    "the environment variable that holds the key; a server of one's own needs none"
    concurrency: int = pydantic.Field(default=8, ge=1)
    "requests under way at once; higher: faster until the server's limit"
    timeout: float = pydantic.Field(default=120.0, gt=0)
    "seconds from sending a request to the end of its answer"
    tries: int = pydantic.Field(default=6, ge=1)
    "of a request that fails for reasons that may pass"
    backoff: float = pydantic.Field(default=1.0, gt=0)
    "seconds before the second try; twice as long before each further one, at most a minute"
    token_limit: int | None = pydantic.Field(default=None, ge=1)
    "prompt and completion tokens that one run of a stage may use; it stops before it would use more"
    batch_api: bool = False
    "hand requests in as batches: half the price at OpenAI, answers within 24 hours"

    @pydantic.field_validator("key_variable")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            raise ValueError("is the name of an environment variable, in capitals, never the key itself")
        return value

    def key(self) -> str:
        """The key from the environment, or nothing.

        :raises InputError: if what is there can be no key.
        """
        key = os.environ.get(self.key_variable, "").strip()
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InputError(f"the environment variable {self.key_variable} holds characters that no key has. Set it anew.")
        return key
