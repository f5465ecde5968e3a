"""Prompts are random tokens here: how well they are told apart does not depend on what they say. Expectations come from the evaluation of each one alone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stages.llm import choosing
from stages.llm.choosing import log_probabilities, parting
from stages.llm.context import SEQUENCES, Batch, Context
from stages.llm.llamacpp import LlamaCpp
from stages.llm.options import OptionTree

LENGTH = 700
"of the longest prompt: more than one batch holds"
OPTIONS = [(501, 502, 503), (501, 502, 600), (501, 700), (800,)]
TREE = OptionTree(OPTIONS, [2])
BRANCH = 2  # tokens evaluated after a prompt: 501, then 502; 503, 600, 700 and 800 are only read


@pytest.fixture(scope="module")
def context(base_model: Path) -> Iterator[Context]:
    with LlamaCpp(base_model / "model.gguf", context=256) as loaded:
        made = Context(loaded.model, SEQUENCES, LENGTH + choosing.ROOM, apart=False)
        yield made
        made.free()


def family(seed: int, lengths: list[int], children: int) -> list[list[int]]:
    """Prompts that part again and again: ``children`` ways after each of ``lengths``."""
    random = np.random.default_rng(seed)
    found: list[list[int]] = [[]]
    for length in lengths:
        found = [[*one, *random.integers(1000, 40_000, length).tolist()] for one in found for _ in range(children)]
    return found


def alone(context: Context, prompt: list[int], tree: OptionTree = TREE) -> np.ndarray:
    ((_, logs),) = log_probabilities(context, [prompt], tree)
    return logs


def together(context: Context, prompts: list[list[int]], tree: OptionTree = TREE) -> list[np.ndarray]:
    found = dict(log_probabilities(context, prompts, tree))
    assert sorted(found) == list(range(len(prompts)))
    return [found[index] for index in range(len(prompts))]


def assert_same(context: Context, prompts: list[list[int]], every: int = 1) -> None:
    """Within rounding to bfloat16, which other prompts' answers are far from; only ``every`` so manieth prompt is asked alone."""
    expected = np.array([alone(context, prompt) for prompt in prompts[::every]])
    np.testing.assert_allclose(together(context, prompts)[::every], expected, atol=0.4)
    assert np.abs(np.diff(np.unique(expected, axis=0), axis=0)).max(axis=1).min() > 0.4


def test_prompts_that_part_at_several_depths_are_answered_as_alone(context: Context) -> None:
    assert_same(context, family(1, [20, 9, 4], 3))


def test_more_prompts_than_a_batch_holds_go_on_where_the_group_before_ended(context: Context) -> None:
    prompts = family(2, [30, 60, 40], 3)
    assert sum(map(len, prompts)) - sum(parting(sorted(prompts))) > 3 * choosing.BATCH
    assert_same(context, prompts, every=4)


def test_a_prompt_longer_than_a_batch_among_short_ones_is_answered_as_alone(context: Context) -> None:
    long, short = family(3, [LENGTH], 1)[0], family(4, [30], 3)
    assert_same(context, [short[0], long, [*long[:600], *short[1]], short[2]])


def test_a_prompt_that_begins_another_and_one_that_is_there_twice_are_answered_as_alone(context: Context) -> None:
    (prompt,) = family(5, [40], 1)
    found = together(context, [prompt, prompt[:25], prompt, prompt[:26]])
    for logs, same in zip(found, [prompt, prompt[:25], prompt, prompt[:26]], strict=True):
        np.testing.assert_allclose(logs, alone(context, same), atol=0.4)
    assert np.abs(found[1] - found[3]).max() > 0.4


def test_options_in_more_parts_than_one_leave_the_prompts_in_memory(context: Context) -> None:
    tree = OptionTree([(token, 900) for token in range(1000, 1260)], [2])
    prompts = family(6, [20], 2)
    np.testing.assert_allclose(together(context, prompts, tree), [alone(context, prompt, tree) for prompt in prompts], atol=0.6)


def test_the_order_of_the_prompts_does_not_matter(context: Context) -> None:
    prompts = family(7, [20, 9], 3)
    np.testing.assert_array_equal(together(context, prompts), together(context, prompts[::-1])[::-1])


def test_what_prompts_share_is_evaluated_once(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = list[int]()

    def count(self: Context, batch: Batch) -> None:
        evaluated.append(batch.size)
        evaluate(self, batch)

    evaluate = Context.evaluate
    monkeypatch.setattr(Context, "evaluate", count)
    prompts = family(8, [100, 50, 7], 3)
    together(context, prompts)
    distinct = 3 * 100 + 9 * 50 + 27 * 7
    assert sum(evaluated) == distinct + len(prompts) * BRANCH
    assert len(evaluated) <= 2 * distinct / choosing.BATCH + 1


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [([], []), ([[1, 2]], [0]), ([[1, 2, 3], [1, 2, 4, 5], [1, 2, 4, 6], [9]], [0, 2, 3, 0]), ([[1, 2], [1, 2]], [0, 1]), ([[1], [1, 2, 3]], [0, 0])],
)
def test_prompts_part_where_they_differ_and_keep_a_token_of_their_own(prompts: list[list[int]], expected: list[int]) -> None:
    assert parting(prompts) == expected
