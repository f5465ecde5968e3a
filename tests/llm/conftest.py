from collections.abc import Callable, Iterator
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
