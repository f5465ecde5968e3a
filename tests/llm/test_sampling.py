import numpy as np
import pytest
from scipy.special import softmax

from stages.llm.interface import Sampling
from stages.llm.sampling import draw, generator

LOGITS = np.log(np.array([0.05, 0.5, 0.15, 0.3], dtype=np.float32))


def frequencies(sampling: Sampling, logits: np.ndarray = LOGITS, n: int = 20_000) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.bincount([draw(logits, sampling, random) for _ in range(n)], minlength=len(logits)) / n


def sampling(**settings: float) -> Sampling:
    return Sampling(max_tokens=1, **{"temperature": 1.0, **settings})  # type: ignore[arg-type]


def test_tokens_come_as_often_as_they_are_likely() -> None:
    np.testing.assert_allclose(frequencies(sampling()), [0.05, 0.5, 0.15, 0.3], atol=0.015)


def test_temperature_divides_the_logits() -> None:
    np.testing.assert_allclose(frequencies(sampling(temperature=0.5)), softmax(2 * LOGITS), atol=0.015)


def test_without_temperature_the_likeliest_is_taken() -> None:
    assert frequencies(sampling(temperature=0.0), n=10).tolist() == [0, 1, 0, 0]


def test_top_k_keeps_the_likeliest_in_proportion() -> None:
    np.testing.assert_allclose(frequencies(sampling(top_k=2)), [0, 0.625, 0, 0.375], atol=0.015)


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, [1]), (0.6, [1, 3]), (0.79, [1, 3]), (0.9, [1, 2, 3]), (0.99, [0, 1, 2, 3])])
def test_top_p_keeps_the_fewest_that_reach_it(top_p: float, kept: list[int]) -> None:
    expected = np.zeros(4)
    expected[kept] = np.exp(LOGITS)[kept] / np.exp(LOGITS)[kept].sum()
    np.testing.assert_allclose(frequencies(sampling(top_p=top_p)), expected, atol=0.015)


def test_top_k_keeps_that_many_of_nearly_equal_ones() -> None:
    logits = np.random.default_rng(1).permutation(np.linspace(0, 0.5, 50)).astype(np.float32)
    assert set(np.flatnonzero(frequencies(sampling(top_k=20), logits))) == set(np.argsort(-logits)[:20])


def test_top_k_may_keep_more_than_matter() -> None:
    np.testing.assert_allclose(frequencies(sampling(top_k=3), np.array([-40, 0, -60, 0, -80], dtype=np.float32)), [0, 0.5, 0, 0.5, 0], atol=0.015)


def test_top_p_looks_at_what_temperature_and_top_k_left() -> None:
    # of the two likeliest, at temperature 0.5: 0.25 to 0.09, so the first alone holds 0.735
    assert np.flatnonzero(frequencies(sampling(temperature=0.5, top_k=2, top_p=0.73))).tolist() == [1]
    assert np.flatnonzero(frequencies(sampling(temperature=0.5, top_k=2, top_p=0.74))).tolist() == [1, 3]


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
def test_leaving_out_the_unlikely_before_sorting_changes_nothing(top_p: float) -> None:
    logits = np.random.default_rng(1).normal(size=5_000).astype(np.float32) * 3
    chances = np.sort(softmax(logits.astype(np.float64)))[::-1]
    size = int(np.searchsorted(np.cumsum(chances), top_p)) + 1
    nucleus = set(np.argsort(-logits)[:size].tolist())
    random = np.random.default_rng(2)
    drawn = {draw(logits, sampling(top_p=top_p), random) for _ in range(3_000)}
    assert drawn <= nucleus
    assert softmax(logits)[list(drawn)].sum() > 0.7 * top_p


def test_equal_logits_are_drawn_evenly() -> None:
    np.testing.assert_allclose(frequencies(sampling(), np.zeros(5, dtype=np.float32)), np.full(5, 0.2), atol=0.015)


def test_seed_repeat_and_prompt_each_change_the_numbers() -> None:
    def first(seed: int, repeat: int, tokens: list[int]) -> float:
        return float(generator(Sampling(1, seed=seed), repeat, tokens).random())

    assert first(1, 0, [1, 2]) == first(1, 0, [1, 2])
    assert len({first(1, 0, [1, 2]), first(2, 0, [1, 2]), first(1, 1, [1, 2]), first(1, 0, [12]), first(1, 0, [2, 1])}) == 5
