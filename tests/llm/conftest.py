import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.llm.endpoint import Endpoint, Traffic
from stages.llm.server import Server
from tests.llm.faulty_server import FaultyServer, running


@pytest.fixture
def faulty() -> Iterator[FaultyServer]:
    with running() as server:
        yield server


@pytest.fixture
def connect(faulty: FaultyServer) -> Iterator[Callable[..., Server]]:
    """Open servers with short waits; settings by name go where they belong."""
    opened: list[Server] = []

    def make(**settings: Any) -> Server:
        endpoint = {"base_url": faulty.url, "model": "m"} | {name: settings.pop(name) for name in list(settings) if name in Endpoint.model_fields}
        opened.append(Server(Endpoint(**endpoint), Traffic(**{"backoff": 0.01, "timeout": 5.0, "tries": 4} | settings)))
        return opened[-1]

    yield make
    for server in opened:
        server.close()


@pytest.fixture(scope="session")
def real_server(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of llama-cpp-python's own server with the base model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(base_model / "model.gguf"), "--host", "127.0.0.1", "--port", str(port)]
    with (
        log.open("w") as output,
        subprocess.Popen([*command, "--n_ctx", "1024", "--logits_all", "true", "--flash_attn", "true", "--verbose", "false"], stdout=output, stderr=output) as process,
    ):
        try:
            for _ in range(300):
                assert process.poll() is None, log.read_text()
                try:
                    urllib.request.urlopen(f"{url}/models").close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()
