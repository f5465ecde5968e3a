from itertools import combinations

import numpy as np
import pytest

from stages.llm.options import OptionTree

ENDING = [98, 99]


def language(seed: int, size: int = 6) -> dict[tuple[int, ...], np.ndarray]:
    """Next-token distributions after each beginning of up to three tokens, over tokens 0..size-1 and the two endings."""
    random = np.random.default_rng(seed)
    beginnings = [(), *((a,) for a in range(size)), *((a, b) for a in range(size) for b in range(size))]
    return {beginning: random.dirichlet(np.ones(size + 2)) for beginning in beginnings}


def found(tree: OptionTree, chances: dict[tuple[int, ...], np.ndarray], size: int = 6) -> dict[tuple[tuple[int, ...], int], float]:
    return {(beginning, token): float(np.log(chances[beginning][token if token < size else size + token - 98])) for beginning, tokens in tree.wanted.items() for token in tokens}


def test_single_tokens_need_one_step_and_no_branch() -> None:
    tree = OptionTree([[1], [2], [3]], ENDING)
    assert tree.wanted == {(): {1, 2, 3}}
    assert tree.branches == [()]
    assert tree.depth == 1


def test_shared_beginnings_are_one_branch() -> None:
    tree = OptionTree([[1, 2, 3], [1, 2, 4], [1, 5], [2]], ENDING)
    assert tree.wanted == {(): {1, 2}, (1,): {2, 5}, (1, 2): {3, 4}}
    assert tree.branches == [(1, 2)]


def test_an_option_that_begins_another_wants_the_endings_and_a_branch() -> None:
    tree = OptionTree([[1], [1, 0], [7]], ENDING)
    assert tree.wanted == {(): {1, 7}, (1,): {0, 98, 99}}
    assert tree.branches == [(1,)]


@pytest.mark.parametrize("seed", range(5))
def test_branches_pass_through_every_beginning_and_none_begins_another(seed: int) -> None:
    random = np.random.default_rng(seed)
    options = {tuple(random.integers(0, 3, size=random.integers(1, 5)).tolist()) for _ in range(20)}
    tree = OptionTree(sorted(options), ENDING)
    assert {branch[:n] for branch in tree.branches for n in range(len(branch) + 1)} == set(tree.wanted)
    assert not any(one == other[: len(one)] for one, other in combinations(sorted(tree.branches), 2))


@pytest.mark.parametrize("seed", range(3))
def test_log_probabilities_are_products_of_the_steps(seed: int) -> None:
    chances = language(seed)
    tree = OptionTree([[1], [1, 0], [2, 3, 4], [2, 3, 5]], ENDING)
    ends = chances[(1,)][6] + chances[(1,)][7]
    start = chances[()]
    expected = [
        start[1] * ends,
        start[1] * chances[(1,)][0],
        start[2] * chances[(2,)][3] * chances[(2, 3)][4],
        start[2] * chances[(2,)][3] * chances[(2, 3)][5],
    ]
    np.testing.assert_allclose(np.exp(tree.log_probabilities(found(tree, chances))), expected)


def test_all_continuations_and_the_end_share_what_their_beginning_has() -> None:
    chances = language(9)
    tree = OptionTree([[1], *([1, token] for token in range(6))], ENDING)
    assert np.exp(tree.log_probabilities(found(tree, chances))).sum() == pytest.approx(chances[()][1])


@pytest.mark.parametrize("options", [[[1], [1]], [[1], []], [[]]])
def test_options_that_cannot_be_told_apart_are_refused(options: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="options"):
        OptionTree(options, ENDING)
