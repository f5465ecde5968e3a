"""A model behind an OpenAI-compatible server: OpenAI, vLLM, llama-server, ``python -m llama_cpp.server``.

Requests run side by side on an event loop in a thread of its own, so that a caller who takes time over an answer makes no other one late. Each
answer is handed on when it comes; the response cache in front stores it before the next.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import anyio
from anyio.from_thread import start_blocking_portal
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from stages.core.errors import InputError
from stages.core.workspace import state_folder
from stages.llm import chat
from stages.llm.answering import Answering, Asked
from stages.llm.batches import Batches, request_id
from stages.llm.budget import Budget
from stages.llm.chat import Body, Reply
from stages.llm.connection import Connection, Run, StoppedError
from stages.llm.endpoint import Endpoint, Traffic
from stages.llm.interface import Choice, Completion, Prompt, Sampling

T = TypeVar("T")


@dataclass(frozen=True)
class _Job(Generic[T]):
    """A prompt to be answered."""

    index: int
    prompt: Prompt
    request: Callable[[Prompt], Body]
    "the first request about it"
    finish: "Callable[[Prompt, Run, Asked | None], Awaitable[T]]"
    "makes the answer of the reply to that request, or asks if there is none yet"


class Server:
    """See :class:`stages.llm.interface.LanguageModel`. To be closed, or used in a ``with`` statement."""

    def __init__(self, endpoint: Endpoint, traffic: Traffic | None = None) -> None:
        """Ask the model of ``endpoint`` in the manner of ``traffic``; nothing is sent yet.

        :raises InputError: if the key in the environment can be none.
        """
        self.endpoint, self.traffic = endpoint, traffic or Traffic()
        self.fingerprint = endpoint.fingerprint
        self.budget = Budget(self.traffic.token_limit)
        self._connection = Connection(endpoint, self.traffic, self.budget)
        self._answering = Answering(endpoint, self._connection)
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(start_blocking_portal())

    def close(self) -> None:
        """End all requests, the connections and the thread."""
        with suppress(RuntimeError):  # closed before
            self._portal.call(self._connection.close)
            self._portal.call(self._portal.stop, True)
        self._stack.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, repeats: Sequence[int] = ()) -> Iterator[tuple[int, Completion]]:
        """See :class:`stages.llm.interface.LanguageModel`.

        A prompt that exceeds the model's context is cut at a sentence until it fits; the answer to one that the server's content filter refuses is empty.

        :raises InputError: if the server refuses, stays down, or the token limit is reached: after all answers that still came, and saying how many.
        """
        if sampling.top_k and self.endpoint.speaks_openai:
            raise InputError(f"top_k = {sampling.top_k} cannot be asked of {self.endpoint.base_url}. Set it to 0, or the dialect to 'extended' if that server knows it.")
        requests = [partial(chat.writing, self.endpoint, sampling, repeat) for repeat in repeats or [0] * len(prompts)]
        asked = enumerate(zip(prompts, requests, strict=True))
        return self._answers(len(prompts), (_Job(index, prompt, request, partial(self._answering.write, request)) for index, (prompt, request) in asked))

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Iterator[tuple[int, Choice]]:
        """See :class:`stages.llm.interface.LanguageModel`; a server tells less than a model in process.

        It is asked for one token at temperature 1, with the log-probabilities of the ``top_logprobs`` likeliest ones. Where several options begin with a token that is
        likely enough to matter, it is asked again for answers that begin so: the grammar in the request sees to that at servers built on llama.cpp.
        :func:`stages.llm.naming.by_tokens` says what is made of the probabilities, and what of it is approximate.

        Other servers choose the beginnings of their answers themselves: up to ``votes`` answers are drawn there, until the probabilities along them tell the options apart.
        Where they do not, or the server gives none, the answers themselves are counted as votes (:func:`stages.llm.naming.by_votes`); ``Choice.mass`` is then the share of
        them that name an option.
        A prompt that the content filter refuses gets equal probabilities and the mass 0.

        :raises InputError: see :meth:`generate`.
        :raises ValueError: if an option is empty or two are the same.
        """
        if not all(all(own) and len(set(own)) == len(own) for own in options):
            raise ValueError("options must differ and not be empty")
        asked = enumerate(zip(prompts, options, strict=True))
        return self._answers(len(prompts), (_Job(index, prompt, self._first_request(own), partial(self._answering.choose, own)) for index, (prompt, own) in asked))

    def _first_request(self, options: Sequence[str]) -> Callable[[Prompt], Body]:
        """What choosing among ``options`` begins with."""
        return partial(chat.listing, self.endpoint, "") if self.endpoint.top_logprobs else partial(chat.voting, self.endpoint, options, 0, listed=False)

    def _answers(self, n: int, jobs: Iterable[_Job[T]]) -> Iterator[tuple[int, T]]:
        """Answers to ``n`` prompts as they come; after the last one, the fault that ended the run, if there was one."""
        send, receive = anyio.create_memory_object_stream[tuple[int, T]](0)
        work = self._portal.start_task_soon(self._work, jobs, send)
        kept = 0
        try:
            while True:
                try:
                    answer = self._portal.call(receive.receive)
                except anyio.EndOfStream:
                    break
                yield answer
                kept += 1
            fault = work.result()
        finally:
            work.cancel()
            try:
                self._portal.call(receive.aclose)
            except RuntimeError:  # the server was closed meanwhile
                receive.close()
        if fault:
            raise InputError(f"{fault} {kept} of {n} answers came and are kept; `dvc repro` goes on from there.")

    async def _work(self, jobs: Iterable[_Job[T]], results: MemoryObjectSendStream[tuple[int, T]]) -> InputError | None:
        run = Run()
        feed, waiting = anyio.create_memory_object_stream[tuple[_Job[T], Asked | None]](0)
        async with results, anyio.create_task_group() as group:
            for _ in range(self.traffic.concurrency):
                group.start_soon(self._worker, waiting.clone(), results, run)
            waiting.close()
            await run.guard(self._feed_batches if self.traffic.batch_api else self._feed, jobs, feed, run)
        return run.fault

    async def _worker(self, waiting: MemoryObjectReceiveStream[tuple[_Job[T], Asked | None]], results: MemoryObjectSendStream[tuple[int, T]], run: Run) -> None:
        async def finish(job: _Job[T], given: Asked | None) -> None:
            await results.send((job.index, await job.finish(job.prompt, run, given)))

        async with waiting:
            async for job, given in waiting:
                if not await run.guard(finish, job, given):
                    return

    async def _feed(self, jobs: Iterable[_Job[T]], feed: MemoryObjectSendStream[tuple[_Job[T], Asked | None]], _run: Run) -> None:
        async with feed:
            with suppress(anyio.BrokenResourceError):  # no worker is left, as the run has ended
                for job in jobs:
                    await feed.send((job, None))

    async def _feed_batches(self, jobs: Iterable[_Job[T]], feed: MemoryObjectSendStream[tuple[_Job[T], Asked | None]], run: Run) -> None:
        """Equal requests are sent once; those that fail alone are left to the workers."""
        bodies, asking = dict[str, Body](), dict[str, list[_Job[T]]]()
        for job in jobs:
            body = job.request(job.prompt)
            id = request_id(body)
            bodies[id] = body
            asking.setdefault(id, []).append(job)

        async def emit(id: str, reply: Reply | None) -> None:
            for job in asking[id]:
                try:
                    await feed.send((job, Asked(reply, bodies[id], job.prompt) if reply else None))
                except anyio.BrokenResourceError:
                    raise StoppedError from None

        async with feed:
            await Batches(self._connection, state_folder("llm") / "batches" / self.fingerprint).answer(bodies, emit, run)
