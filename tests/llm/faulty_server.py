"""A real HTTP server on loopback that speaks chat completions, files and batches, and breaks when it is told to."""

import json
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Body = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """What happens instead of an answer."""

    kind: Literal["status", "hang", "drop", "truncated", "text", "no choices", "reset", "lost"] = "status"
    "lost: the request is carried out, its reply dropped"
    status: int = 500
    message: str = "broken"
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Batch:
    lines: list[Body]
    data: Body
    polls: int = 0


class FaultyServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.faults = deque[Fault | None]()
        "of the next chat requests, one each; none: answered"
        self.always: Fault | None = None
        "of every chat request after those"
        self.faults_elsewhere = deque[Fault | None]()
        "of the next requests for files and batches"
        self.fails_for: Callable[[Body], Fault | None] = lambda _body: None
        self.listed: dict[str, float] | None = None
        "log-probabilities of first tokens; none: not given"
        self.listed_after: dict[str, dict[str, float]] = {}
        "log-probabilities of tokens after beginnings of an answer"
        self.drawn: Callable[[Body], list[str]] | None = None
        "the tokens of an answer; none: it is ``text``, in one piece"
        self.text: Callable[[Body], str | None] = lambda body: f"to {body['messages'][-1]['content']}"
        self.usage: Body | None = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        self.finish = "stop"
        self.delay = 0.0
        self.requests: list[Body] = []
        "all chat requests, also those that a fault met"
        self.times: list[float] = []
        "when they came"
        self.answered = Counter[str]()
        "answers sent in full, by last turn"
        self.keys: set[str | None] = set()
        self.at_once = self.most_at_once = 0
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Batch] = {}
        self.polls_needed = 2
        self.end = "completed"
        "of every batch"
        self.fails_in_batch: Callable[[Body], bool] = lambda _body: False
        self.hanging = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the plan."""

    def reply(self, body: Body) -> Body:
        choices = []
        for i in range(int(body.get("n", 1))):
            tokens = self.drawn(body | {"seed": body["seed"] + i})[: body.get("max_tokens") or body["max_completion_tokens"]] if self.drawn else None
            said = "".join(tokens) if tokens else self.text(body)
            choices.append({"index": i, "message": {"role": "assistant", "content": said}, "finish_reason": self.finish, "logprobs": self._logprobs(body, tokens or [])})
        return {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"], "choices": choices, "usage": self.usage}

    def _logprobs(self, body: Body, tokens: list[str]) -> Body | None:
        if not body.get("logprobs") or self.listed is None:
            return None
        content, said = [], ""
        for token in tokens or list(self.listed)[:1]:
            listed = self.listed_after.get(said, {}) if said else self.listed
            content.append({"token": token, "logprob": listed.get(token, -20.0), "top_logprobs": [_likely(*one) for one in listed.items()][: body["top_logprobs"]]})
            said += token
        return {"content": content}

    def add_file(self, content: bytes) -> str:
        with self.lock:
            name = f"file-{len(self.files)}"
            self.files[name] = content
        return name

    def add_batch(self, input_file: str, metadata: Body) -> Body:
        lines = [json.loads(line) for line in self.files[input_file].splitlines()]
        with self.lock:
            name = f"batch-{len(self.batches)}"
            data = {"id": name, "object": "batch", "status": "validating", "metadata": metadata, "created_at": int(time.time()), "output_file_id": None}
            self.batches[name] = Batch(lines, data)
        return data

    def poll(self, name: str) -> Body:
        batch = self.batches[name]
        batch.polls += 1
        if batch.polls == self.polls_needed:
            lines = batch.lines if self.end == "completed" else batch.lines[: len(batch.lines) // 2]
            output = []
            for line in lines:
                failed = self.fails_in_batch(line["body"])
                response = {"status_code": 500, "body": {"error": {"message": "broken"}}} if failed else {"status_code": 200, "body": self.reply(line["body"])}
                if not failed:
                    self.answered[line["body"]["messages"][-1]["content"]] += 1
                output.append(json.dumps({"id": "r", "custom_id": line["custom_id"], "response": response, "error": None}))
            batch.data |= {"status": self.end, "output_file_id": self.add_file("\n".join(output).encode()) if output else None}
            if self.end == "failed":
                batch.data |= {"output_file_id": None, "errors": {"data": [{"message": "too many tokens enqueued"}]}}
        return batch.data


def _likely(token: str, logprob: float) -> Body:
    return {"token": token, "logprob": logprob, "bytes": None}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def log_message(self, *_: Any) -> None:
        """Silence."""

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, "application/json", headers)

    def _send(self, content: bytes, status: int = 200, kind: str = "application/octet-stream", headers: dict[str, str] | None = None, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content) if length is None else length), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _break(self, fault: Fault) -> None:
        good = b'{"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "cut sh'
        if fault.kind == "status":
            self._json({"error": {"message": fault.message, "code": fault.code}}, fault.status, fault.headers)
        elif fault.kind == "hang":
            self.server.hanging.wait(20)
            self.close_connection = True
        elif fault.kind == "drop":
            self._send(good, kind="application/json", length=1000)
            self.close_connection = True
        elif fault.kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault.kind == "truncated":
            self._send(good, kind="application/json")
        elif fault.kind == "text":
            self._send(b"<html>Bad gateway</html>", kind="text/html")
        else:
            self._json({"id": "c", "object": "chat.completion", "choices": []})

    def do_GET(self) -> None:
        server, path = self.server, self.path.split("?")[0]
        if self._fault_elsewhere():
            return
        if path == "/v1/batches":
            self._json({"object": "list", "data": [batch.data for batch in reversed(server.batches.values())], "has_more": False})
        elif path.startswith("/v1/batches/"):
            name = path.split("/")[-1]
            if name in server.batches:
                self._json(server.poll(name))
            else:
                self._json({"error": {"message": "no such batch"}}, 404)
        elif path.startswith("/v1/files/"):
            self._send(server.files[path.split("/")[3]])

    def do_POST(self) -> None:
        server = self.server
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/chat/completions":
            with server.lock:
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            try:
                self._chat(json.loads(content))
            finally:
                with server.lock:
                    server.at_once -= 1
        elif self._fault_elsewhere(content):
            return
        else:
            self._json(self._accept(content))

    def _accept(self, content: bytes) -> Body:
        if self.path == "/v1/files":
            return {"id": self.server.add_file(_uploaded(content)), "object": "file"}
        asked = json.loads(content)
        return self.server.add_batch(asked["input_file_id"], asked["metadata"])

    def _fault_elsewhere(self, content: bytes = b"") -> bool:
        with self.server.lock:
            fault = self.server.faults_elsewhere.popleft() if self.server.faults_elsewhere else None
        if fault and fault.kind == "lost":
            self._accept(content)
            self._break(Fault("drop"))
        elif fault:
            self._break(fault)
        return bool(fault)

    def _chat(self, body: Body) -> None:
        server = self.server
        with server.lock:
            server.requests.append(body)
            server.times.append(time.time())
            server.keys.add(self.headers["Authorization"])
            fault = server.faults.popleft() if server.faults else server.always
        fault = fault or server.fails_for(body)
        if fault:
            self._break(fault)
            return
        time.sleep(server.delay)
        self._json(server.reply(body))
        with server.lock:
            server.answered[body["messages"][-1]["content"]] += 1


def _uploaded(content: bytes) -> bytes:
    """The file in a multipart form: the part that has a file name."""
    boundary = content.split(b"\r\n", 1)[0]
    part = next(part for part in content.split(boundary) if b"filename=" in part)
    return part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")


@contextmanager
def running() -> Iterator[FaultyServer]:
    server = FaultyServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.hanging.set()
        server.shutdown()
        server.server_close()
        thread.join()
