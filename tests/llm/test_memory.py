"""Texts written side by side. Expectations come from llama.cpp's evaluation of each whole text by itself."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from scipy.special import log_softmax

from stages.llm import forward
from stages.llm.forward_memory import ForwardMemory
from stages.llm.llamacpp import LlamaCpp
from stages.llm.memory import LlamaMemory, Memory
from stages.models.base import convert
from tests import checkpoints
from tests.logits import llama_logits

PLACES, LENGTH = 5, 64
Remember = Callable[[list[int]], Memory]


def tokens(seed: int, n: int) -> list[int]:
    found: list[int] = np.random.default_rng(seed).integers(100, 300, n).tolist()
    return found


@pytest.fixture(scope="module", params=list(checkpoints.SHAPES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    folder = tmp_path_factory.mktemp("model")
    convert(checkpoints.write(folder / "theirs", request.param), "BF16", folder / "base")
    with LlamaCpp(folder / "base" / "model.gguf", sequences=1, context=256) as loaded:
        yield loaded


@pytest.fixture(params=["torch", "llama.cpp"])
def remember(model: LlamaCpp, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remember]:
    """Makes memory for texts that begin with the tokens given."""
    if request.param == "torch":
        monkeypatch.setattr(forward, "multiplies_bf16", lambda: False)
        loaded = forward.load(model.file, "cpu")
        assert loaded
        yield lambda shared: ForwardMemory(loaded, PLACES, LENGTH, shared)
    else:
        model.sequences = PLACES
        with model._apart(PLACES + 1, LENGTH) as context:
            yield lambda shared: LlamaMemory(context, shared)


def assert_follows(model: LlamaCpp, logits: Sequence[np.ndarray], texts: Sequence[list[int]]) -> None:
    expected = np.stack([llama_logits(model, text)[-1] for text in texts])
    assert len(texts) == 1 or np.ptp(log_softmax(expected, axis=1), axis=0).max() > 0.3
    np.testing.assert_allclose(log_softmax(logits, axis=1), log_softmax(expected, axis=1), atol=0.1)


@pytest.mark.parametrize("alike", [0, 1, 20])
def test_texts_go_on_as_each_does_by_itself(model: LlamaCpp, remember: Remember, alike: int) -> None:
    shared = tokens(1, alike)
    texts = sorted([[*shared, *tokens(2, n), *tokens(n + 3, 4)] for n in (0, 7, 7, 30)])
    texts[2:2] = [texts[2].copy()]  # one twice
    memory = remember(shared)
    memory.begin(0, texts)
    for step in range(3):
        for text in texts:
            text.append(int(tokens(50 + step, 1)[0]) + len(text) % 3)
        assert_follows(model, memory.follow([text[-1] for text in texts]), texts)


def test_a_prompt_that_all_share_whole_is_not_evaluated_again(model: LlamaCpp, remember: Remember) -> None:
    shared = tokens(1, 9)
    memory = remember(shared)
    memory.begin(0, [shared, shared])
    texts = [[*shared, 120], [*shared, 240]]
    assert_follows(model, memory.follow([120, 240]), texts)


def test_places_are_used_again_and_texts_move(model: LlamaCpp, remember: Remember) -> None:
    shared = tokens(1, 6)
    texts = [[*shared, *tokens(n, 12 * n)] for n in (1, 2, 3, 4)]
    memory = remember(shared)
    memory.begin(0, sorted(texts))
    texts.sort()
    texts[1] = texts.pop()  # the last one takes the place of one that ended
    memory.move(3, 1)
    new = sorted([*shared, *tokens(seed, n)] for seed, n in ((7, 2), (8, 40)))
    memory.begin(3, new)
    texts += new
    for step in range(2):
        following = tokens(60 + step, 5)
        for text, token in zip(texts, following, strict=True):
            text.append(token)
        assert_follows(model, memory.follow(following), texts)
    assert_follows(model, memory.follow([150]), [[*texts[0], 150]])
    assert_follows(model, memory.follow([160, 170]), [[*texts[0], 150, 160], [*texts[1], 170]])


def test_more_prompts_than_are_evaluated_at_once(model: LlamaCpp, remember: Remember, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "ROWS", 30)
    texts = sorted([*tokens(1, 3), *tokens(n, 17)] for n in range(5))
    memory = remember(tokens(1, 3))
    memory.begin(0, texts)
    following = tokens(9, 5)
    assert_follows(model, memory.follow(following), [[*text, token] for text, token in zip(texts, following, strict=True)])
