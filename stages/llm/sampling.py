"""One token drawn from a model's logits."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from stages.llm.interface import Sampling

NEGLIGIBLE = np.float32(1e-14)


def generator(sampling: Sampling, repeat: int, tokens: list[int]) -> np.random.Generator:
    """The random numbers of one answer: they depend on its seed, repeat and prompt, not on its neighbours."""
    return np.random.default_rng(list(hashlib.sha256(f"{sampling.seed} {repeat} {tokens}".encode()).digest()))


def draw(logits: NDArray[np.float32], sampling: Sampling, random: np.random.Generator) -> int:
    """A token by ``logits`` [v]: temperature, then top-k, then top-p, in the order of Transformers and vLLM.

    What is less than ``NEGLIGIBLE`` times as likely as the likeliest is never drawn: all of it together weighs less than the rounding of the others.
    """
    if sampling.temperature <= 0:
        return int(logits.argmax())
    weights = logits - logits.max()
    weights /= np.float32(sampling.temperature)
    np.exp(weights, out=weights)
    if 0 < sampling.top_k < len(weights):
        among = weights[weights >= NEGLIGIBLE]
        least = np.partition(among, -sampling.top_k)[-sampling.top_k] if sampling.top_k < len(among) else NEGLIGIBLE
        tokens = _likeliest(weights, least)[: sampling.top_k]
        total = weights[tokens].sum(dtype=np.float64)
    elif sampling.top_p < 1:
        total = weights.sum(dtype=np.float64)
        tokens = _likeliest(weights, (1 - sampling.top_p) / len(weights) * total)  # all others together are less likely than 1 - top_p: no need to sort them
    else:
        tokens = np.flatnonzero(weights >= NEGLIGIBLE)
    sums = np.cumsum(weights[tokens], dtype=np.float64)
    if sampling.top_p < 1:
        sums = sums[: int(np.searchsorted(sums, sampling.top_p * total)) + 1]
    return int(tokens[np.searchsorted(sums, random.random() * sums[-1], side="right")])


def _likeliest(weights: NDArray[np.float32], least: float | np.floating) -> NDArray[np.intp]:
    """Where weights are at least that much, the largest first."""
    places = np.flatnonzero(weights >= least)
    return places[np.argsort(-weights[places], kind="stable")]
