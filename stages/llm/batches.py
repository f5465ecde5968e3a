"""OpenAI's Batch API: requests handed in as a file and answered within a day, at half the price.

A batch survives the process that submitted it: the next one finds it by its record (:mod:`stages.llm.batch_records`), or, if the process was killed before the
record knew the batch's number, by the record's name among the server's latest batches, and reads its answers instead of asking again.
"""

import hashlib
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import anyio
import pydantic

from stages.core.errors import InputError
from stages.llm.batch_records import Record, Records
from stages.llm.chat import Body, Reply, most_tokens
from stages.llm.connection import LONGEST_BACKOFF, Connection, RefusedError, Run

REQUESTS, BYTES = 50_000, 150_000_000
"The most that a batch may hold; OpenAI takes 200 MB."
TRANSFER = 10
"A file may take so many times as long as an answer."
URL: Literal["/v1/chat/completions"] = "/v1/chat/completions"
ENDED = {"completed", "failed", "expired", "cancelled"}
MARK = "plumbline"
"The key of a batch's metadata under which it bears its record's name."

Emit = Callable[[str, Reply | None], Awaitable[None]]
"Takes the answer to a request of a given id; none: this request failed alone and is to be asked by itself."


class _Problem(pydantic.BaseModel):
    message: str | None = None


class _Problems(pydantic.BaseModel):
    data: list[_Problem] | None = None


class _Batch(pydantic.BaseModel):
    """What is read of a batch."""

    id: str
    status: str
    output_file_id: str | None = None
    errors: _Problems | None = None
    metadata: dict[str, str] | None = None

    def bears(self, record: Record) -> bool:
        return (self.metadata or {}).get(MARK) == record.name

    @property
    def why(self) -> str:
        said = "; ".join(problem.message or "" for problem in (self.errors and self.errors.data) or [])
        return f" ({said[:200]})" if said else ""


class _Page(pydantic.BaseModel):
    data: list[_Batch]


class _File(pydantic.BaseModel):
    id: str


class _Response(pydantic.BaseModel):
    status_code: int
    body: Any = None


class _Line(pydantic.BaseModel):
    custom_id: str
    response: _Response | None = None


def request_id(body: Body) -> str:
    """What identifies a request in any batch: a hash of its content."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]


class Batches:
    """The batches of one server and model."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        """Keep records in ``folder``."""
        self._connection, self._records = connection, Records(folder)

    async def answer(self, bodies: Mapping[str, Body], emit: Emit, run: Run) -> None:
        """Emit the answer to each request (by its :func:`request_id`) once, from batches found again and from new ones.

        As many requests are submitted at once as the budget allows; the others follow when those have used less than they might.

        :raises InputError: if the budget is used up, or a batch ends without all its answers.
        """
        left = dict(bodies)
        claimed = set[str]()
        async with anyio.create_task_group() as group:
            for record in self._records.known():
                ids = [id for id in record.ids if id in left and id not in claimed]
                claimed |= set(ids)
                if ids:
                    group.start_soon(run.guard, self._again, record, ids, left, emit, run)
            for record in self._new({id: body for id, body in left.items() if id not in claimed}):
                group.start_soon(run.guard, self._first, record, left, emit, run)
        while True:
            run.check()
            if not left:
                return
            first = most_tokens(next(iter(left.values())))
            await self._connection.budget.reserve(first)  # waits for requests under way, or ends the run
            self._connection.budget.settle(first, 0)
            records = list(self._new(left))
            async with anyio.create_task_group() as group:
                for record in records:
                    group.start_soon(run.guard, self._first, record, left, emit, run)

    def _new(self, bodies: Mapping[str, Body]) -> Iterator[Record]:
        """Requests that fit the budget, which they are charged to, in the order and size of batches."""
        ids, size = list[str](), 0
        for id, body in bodies.items():
            length = len(json.dumps(body))
            if ids and (len(ids) >= REQUESTS or size + length > BYTES):
                yield Record.of(ids)
                ids, size = [], 0
            if not self._connection.budget.take(most_tokens(body)):
                break
            ids.append(id)
            size += length
        if ids:
            yield Record.of(ids)

    async def _first(self, record: Record, left: dict[str, Body], emit: Emit, run: Run) -> None:
        """Submit a batch and emit its answers."""
        charge = used = sum(most_tokens(left[id]) for id in record.ids)
        try:
            await self._submit(record, left, run)
            batch, replies = await self._results(record, run)
            used = sum(reply.tokens(left[id]) for id, reply in replies.items())
        finally:
            self._connection.budget.settle(charge, used)
        await _emit(record.ids, batch, replies, left, emit)
        if batch.status != "completed":
            raise InputError(f"batch {batch.id} ended as '{batch.status}' with {len(replies)} of {len(record.ids)} answers{batch.why}; the next run asks for the others.")

    async def _again(self, record: Record, ids: Sequence[str], left: dict[str, Body], emit: Emit, run: Run) -> None:
        """Emit the answers of a batch that an earlier process submitted, or may have; what has none stays in ``left``."""
        try:
            if record.batch is None:
                record.batch = await self._find(record, run)
                self._records.keep(record)
            if record.batch:
                await _emit(ids, *await self._results(record, run), left, emit)
            else:
                self._records.forget(record)
        except RefusedError as refused:
            if refused.reason != "not there":
                raise
            self._records.forget(record)  # deleted at the server

    async def _submit(self, record: Record, bodies: Mapping[str, Body], run: Run) -> None:
        client, seconds = self._connection.client, self._connection.traffic.timeout
        lines = [json.dumps({"custom_id": id, "method": "POST", "url": URL, "body": bodies[id]}) for id in record.ids]
        content = "\n".join(lines).encode()
        sent = False

        async def upload() -> bytes:
            return (await client.files.with_raw_response.create(file=(f"{record.name}.jsonl", content), purpose="batch")).content

        async def create() -> bytes:
            nonlocal sent
            if sent:  # it may have arrived, and a second batch would be charged for as well
                for batch in _Page.model_validate_json(await self._latest()).data:
                    if batch.bears(record):
                        return batch.model_dump_json().encode()
            sent = True
            return (await client.batches.with_raw_response.create(input_file_id=file.id, endpoint=URL, completion_window="24h", metadata={MARK: record.name})).content

        try:
            file = await self._connection.call(upload, _File.model_validate_json, run, seconds * TRANSFER)
        except RefusedError as refused:
            if refused.reason != "not there":
                raise
            raise InputError(f"{self._connection.endpoint.base_url}: this server has no Batch API. Set batch_api to false in params.yaml.") from None
        self._records.keep(record)
        record.batch = (await self._connection.call(create, _Batch.model_validate_json, run, seconds)).id
        self._records.keep(record)
        print(f"batch {record.batch}: {len(record.ids)} requests submitted; answers may take a day. If this is stopped, `dvc repro` finds the batch again.", file=sys.stderr)

    async def _latest(self) -> bytes:
        return (await self._connection.client.batches.with_raw_response.list(limit=100)).content

    async def _find(self, record: Record, run: Run) -> str | None:
        """The number of a batch that may have been submitted."""
        page = await self._connection.call(self._latest, _Page.model_validate_json, run, self._connection.traffic.timeout)
        return next((batch.id for batch in page.data if batch.bears(record)), None)

    async def _results(self, record: Record, run: Run) -> "tuple[_Batch, dict[str, Reply]]":
        """A batch when it has ended, and what it answered."""
        client, seconds = self._connection.client, self._connection.traffic.timeout

        async def retrieve() -> bytes:
            return (await client.batches.with_raw_response.retrieve(str(record.batch))).content

        wait = self._connection.traffic.backoff
        while (batch := await self._connection.call(retrieve, _Batch.model_validate_json, run, seconds)).status not in ENDED:
            await run.sleep(wait)
            wait = min(2 * wait, LONGEST_BACKOFF)
        if not batch.output_file_id:
            if batch.status != "completed":
                self._records.forget(record)
            return batch, {}
        output = batch.output_file_id

        async def download() -> bytes:
            return (await client.files.with_raw_response.content(output)).content

        return batch, await self._connection.call(download, _replies, run, seconds * TRANSFER)


async def _emit(ids: Sequence[str], batch: _Batch, replies: Mapping[str, Reply], left: dict[str, Body], emit: Emit) -> None:
    """Emit what a batch answered; what a completed one did not, failed alone."""
    for id in ids:
        if id in replies or batch.status == "completed":
            await emit(id, replies.get(id))
            del left[id]


def _replies(content: bytes) -> dict[str, Reply]:
    """The answers in a file of results.

    :raises ValueError: if a line is cut short.
    """
    found = {}
    for line in map(_Line.model_validate_json, content.splitlines()):
        if line.response and line.response.status_code == 200:
            try:
                found[line.custom_id] = Reply.model_validate(line.response.body)
            except ValueError:  # no answer in it
                continue
    return found
