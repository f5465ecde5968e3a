"""One token drawn from a model's logits."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from stages.llm.interface import Sampling


def generator(sampling: Sampling, repeat: int, tokens: list[int]) -> np.random.Generator:
    """The random numbers of one answer: they depend on its seed, repeat and prompt, not on its neighbours."""
    return np.random.default_rng(list(hashlib.sha256(f"{sampling.seed} {repeat} {tokens}".encode()).digest()))


def draw(logits: NDArray[np.float32], sampling: Sampling, random: np.random.Generator) -> int:
    """A token by ``logits`` [v]: temperature, then top-k, then top-p, in the order of Transformers and vLLM."""
    if sampling.temperature <= 0:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()) / np.float32(sampling.temperature))
    tokens = np.arange(len(weights))
    if 0 < sampling.top_k < len(weights):
        tokens = np.argpartition(weights, -sampling.top_k)[-sampling.top_k :]
    if sampling.top_p < 1:
        shares = weights[tokens] / weights[tokens].sum(dtype=np.float64)
        candidates = shares >= (1 - sampling.top_p) / len(tokens)  # all others together are less likely than 1 - top_p: no need to sort them
        tokens, shares = tokens[candidates], shares[candidates]
        order = np.argsort(-shares, kind="stable")
        tokens = tokens[order][: int(np.searchsorted(np.cumsum(shares[order]), sampling.top_p)) + 1]
    sums = np.cumsum(weights[tokens], dtype=np.float64)
    return int(tokens[np.searchsorted(sums, random.random() * sums[-1], side="right")])
