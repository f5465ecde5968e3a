"""One server, asked over a connection that fails: retries, timeouts, spending, and what each failure means.

The client library could retry by itself, but not after a reply that is cut short or no JSON, and not within a spending limit. So it sends each
request once, and all trying again happens here.
"""

import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar, TypeVarTuple, Unpack

import anyio
import openai

from stages.core.errors import InputError
from stages.llm.budget import Budget
from stages.llm.chat import Body, Reply, most_tokens
from stages.llm.endpoint import Endpoint, Traffic

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
Reason = Literal["too long", "withheld", "no log-probabilities", "not there"]
"The prompt exceeds the model's context; a content filter does not let it pass; the server gives no log-probabilities; what is asked for does not exist."
REASONS: dict[Reason, re.Pattern[str]] = {
    "no log-probabilities": re.compile(r"log_?prob", re.IGNORECASE),
    "too long": re.compile(r"context[ _](length|window|size)", re.IGNORECASE),
    "withheld": re.compile(r"content_filter|content_policy|content management policy|invalid_prompt", re.IGNORECASE),
}
"What servers say to mean that."
LONGEST_BACKOFF = 60.0
LONGEST_WAIT = 600.0
"Seconds: a server that asks for more patience stops the run instead."
CONNECT_SECONDS = 20.0
PASSING = {408, 409, 425, 429}
"Statuses below 500 that may pass."


class StoppedError(Exception):
    """The run has ended elsewhere."""


class RefusedError(InputError):
    """The server refuses one request for a reason that another request may avoid."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Run:
    """One call of ``generate`` or ``choose``. At the first fault that no retry mends nothing more is sent, but what is under way is still received."""

    def __init__(self) -> None:
        self.fault: InputError | None = None
        self._stopped = anyio.Event()

    def stop(self, fault: InputError) -> None:
        """End the run; the first fault counts."""
        self.fault = self.fault or fault
        self._stopped.set()

    def check(self) -> None:
        """Raise :class:`StoppedError` if the run has ended."""
        if self._stopped.is_set():
            raise StoppedError

    async def sleep(self, seconds: float) -> None:
        """Wait, unless the run ends."""
        with anyio.move_on_after(seconds):
            await self._stopped.wait()
        self.check()

    async def guard(self, work: Callable[[Unpack[Arguments]], Awaitable[object]], *arguments: *Arguments) -> bool:
        """Do ``work``; a fault in it ends the run. Whether it came to its end."""
        try:
            await work(*arguments)
        except InputError as fault:
            self.stop(fault)
            return False
        except StoppedError:
            return False
        return True


@dataclass(frozen=True)
class _Trouble:
    """Why a request has no answer yet."""

    reason: str
    wait: float = 0.0
    "seconds that the server wants to be left alone"
    charged: bool = True
    "whether the server may have done, and charged for, the work"


class Connection:
    """The client, and the only place that knows the key."""

    def __init__(self, endpoint: Endpoint, traffic: Traffic, budget: Budget) -> None:
        """:raises InputError: if the key in the environment can be none."""
        self.endpoint, self.traffic, self.budget = endpoint, traffic, budget
        self._key = traffic.key()
        timeout = openai.Timeout(None, connect=min(CONNECT_SECONDS, traffic.timeout))  # the whole is timed in ``_once``
        self.client = openai.AsyncOpenAI(api_key=self._key or "none", base_url=endpoint.base_url, timeout=timeout, max_retries=0)

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()

    async def chat(self, body: Body, run: Run) -> Reply:
        """Ask, within the budget.

        :raises InputError: if the server gives no answer after all tries, or will never give one.
        :raises RefusedError: if that is for a reason that another request may avoid.
        """

        async def request() -> bytes:
            rest = {name: value for name, value in body.items() if name not in ("model", "messages")}
            return (await self.client.chat.completions.with_raw_response.create(model=body["model"], messages=body["messages"], extra_body=rest)).content

        return await self.call(request, Reply.model_validate_json, run, self.traffic.timeout, most_tokens(body), lambda reply: reply.tokens(body))

    async def call(
        self, request: Callable[[], Awaitable[bytes]], read: Callable[[bytes], T], run: Run, seconds: float, charge: int = 0, used: Callable[[T], int] = lambda _: 0
    ) -> T:
        """Send ``request`` until ``read`` understands the reply.

        :param seconds: from sending to the end of the reply.
        :param charge: the most tokens that it can use; ``used``: those that it did.
        :raises InputError: see :meth:`chat`.
        """
        trouble = _Trouble("")
        for attempt in range(self.traffic.tries):
            if attempt:
                await run.sleep(trouble.wait + min(self.traffic.backoff * 2 ** (attempt - 1), LONGEST_BACKOFF) * random.uniform(0.5, 1.0))
            await self.budget.reserve(charge)
            spent = charge
            try:
                run.check()
                found = await self._once(request, read, seconds)
                if not isinstance(found, _Trouble):
                    spent = used(found)
                    return found
                trouble, spent = found, charge if found.charged else 0
            except (StoppedError, InputError):
                spent = 0
                raise
            finally:
                self.budget.settle(charge, spent)
        raise InputError(f"{self.endpoint.base_url}: {trouble.reason}, {self.traffic.tries} times in a row. See whether the server is up and reachable.")

    async def _once(self, request: Callable[[], Awaitable[bytes]], read: Callable[[bytes], T], seconds: float) -> T | _Trouble:
        try:
            with anyio.fail_after(seconds):
                return read(await request())
        except TimeoutError:
            return _Trouble(f"no answer within {seconds:g} seconds")
        except openai.APIStatusError as error:
            refused = error  # what is raised about it must not carry the request with its key along
        except openai.APIConnectionError as error:
            cause = type(error.__cause__ or error).__name__
            return _Trouble(f"the connection failed ({cause})", charged=not cause.startswith("Connect"))  # ConnectError, ConnectTimeout: nobody was reached
        except ValueError:
            return _Trouble("the answer is cut short or not in the form of OpenAI's interface")
        return self._judge(refused)

    def _judge(self, refused: openai.APIStatusError) -> _Trouble:
        """What a status that is no success means: raised if another try is in vain."""
        status, said = refused.status_code, self._said(refused)
        refusal = f"{self.endpoint.base_url}: HTTP {status}: the server refuses the request: {said}. Correct what it names in params.yaml."
        reason = next((reason for reason, pattern in REASONS.items() if pattern.search(said)), None)
        if reason and status not in (401, 403, 404, 429):
            raise RefusedError(reason, refusal)
        wait = _retry_after(refused.response.headers.get("retry-after", ""))
        if (status in PASSING or status >= 500) and "insufficient_quota" not in said:
            if wait > LONGEST_WAIT:
                raise InputError(f"{self.endpoint.base_url}: the server wants to be left alone for {wait / 60:.0f} minutes (HTTP {status}).")
            return _Trouble(f"the server is busy or broken (HTTP {status}: {said})", wait, charged=False)
        variable, model = self.traffic.key_variable, self.endpoint.model
        todo = {
            401: f"the key in {variable} is not valid. Set that environment variable anew." if self._key else f"a key is needed. Set the environment variable {variable}.",
            403: f"the key in {variable} may not use the model '{model}' here. Use another key or model.",
            404: f"there is no model '{model}', or not at this address, which usually ends in /v1. Correct model or base_url in params.yaml.",
            429: f"the account's credit is used up ({said}). Top it up.",
        }
        message = f"{self.endpoint.base_url}: HTTP {status}: {todo[status]}" if status in todo else refusal
        raise RefusedError("not there", message) if status == 404 else InputError(message)

    def _said(self, refused: openai.APIStatusError) -> str:
        """The server's own words, shortened, without the key."""
        body: Any = refused.body
        said = " ".join(str(body[name]) for name in ("code", "message", "detail") if body.get(name)) if isinstance(body, dict) else str(body or "")
        return " ".join((said.replace(self._key, "…") if self._key else said).split())[:200]


def _retry_after(value: str) -> float:
    """Seconds from a ``Retry-After`` header, which holds seconds or a date (RFC 9110, 10.2.3)."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
