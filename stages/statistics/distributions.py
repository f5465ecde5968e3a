"""How far two distributions over the options of a question lie apart.

Distributions are arrays [..., k] that sum to 1 over their last axis; every measure takes the leading axes as they come, so that bootstrap draws go
through in one call. ``real`` is what people answered, ``simulated`` what a model did.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

Array = NDArray[np.float64]
SMOOTHING = 1e-3
"Share of a uniform distribution that is mixed into both sides before a divergence that a single empty option would make infinite."


def smooth(distribution: Array, share: float = SMOOTHING) -> Array:
    """``distribution`` with a ``share`` of the uniform one mixed in."""
    return np.asarray((1 - share) * distribution + share / distribution.shape[-1])


def kl(real: Array, simulated: Array, share: float = SMOOTHING) -> Array:
    """Kullback-Leibler divergence from real to simulated answers in nats, Σ p ln(p / q), both smoothed by ``share``: [...].

    This direction punishes a model for options that people choose and it does not. Equal distributions stay at 0, smoothed or not.
    """
    return np.asarray(rel_entr(smooth(real, share), smooth(simulated, share)).sum(axis=-1))


def js_distance(real: Array, simulated: Array) -> Array:
    """Jensen-Shannon distance, the square root of the divergence in bits: 0 equal .. 1 nothing in common: [...].

    Endres and Schindelin 2003, "A new metric for probability distributions", IEEE Transactions on Information Theory 49:1858.
    """
    middle = (real + simulated) / 2
    divergence = (rel_entr(real, middle) + rel_entr(simulated, middle)).sum(axis=-1) / (2 * np.log(2))
    return np.asarray(np.sqrt(np.clip(divergence, 0, 1)))


def cosine(real: Array, simulated: Array) -> Array:
    """Cosine of the angle between two distributions, 0 .. 1 equal: [...]."""
    return np.asarray((real * simulated).sum(axis=-1) / (np.linalg.norm(real, axis=-1) * np.linalg.norm(simulated, axis=-1)))


def jaccard(real: Array, simulated: Array) -> Array:
    """Weighted Jaccard similarity Σ min(p, q) / Σ max(p, q), 0 nothing in common .. 1 equal: [...].

    Also called Ružička similarity. It is (1 - d) / (1 + d) where d is the total variation distance.
    """
    return np.asarray(np.minimum(real, simulated).sum(axis=-1) / np.maximum(real, simulated).sum(axis=-1))


def wasserstein(real: Array, simulated: Array) -> Array:
    """First Wasserstein distance between options in their order, 0 equal .. 1 from one end of the scale to the other: [...].

    Options are equally far apart, so it is the mean absolute difference of the cumulative distributions over the k - 1 steps. For options without
    an order it has no meaning.
    """
    steps = np.abs(np.cumsum(real - simulated, axis=-1))[..., :-1]
    return np.asarray(steps.mean(axis=-1))


def chi_square(real: Array, simulated: Array, n: float | Array) -> Array:
    """χ² of the hypothesis that two samples of ``n`` answers each, distributed like this, come from one population, n Σ (p - q)² / (p + q): [...].

    Pearson's statistic of the 2 × k table without correction, k - 1 degrees of freedom. A model whose probabilities are known has no sample size
    of its own; it counts as much as the people it is compared with, whose effective size ``n`` is.
    """
    together = real + simulated
    return np.asarray(n * ((real - simulated) ** 2 / np.where(together > 0, together, 1)).sum(axis=-1))


def cramers_v(real: Array, simulated: Array) -> Array:
    """Cramér's V of the same table, √(χ² / 2n), 0 equal .. 1 nothing in common, whatever the sample size: [...]."""
    return np.asarray(np.sqrt(chi_square(real, simulated, 1.0) / 2))


def mean_score(distribution: Array) -> Array:
    """Mean of answers scored 0 .. 1 along the scale: [...]."""
    return np.asarray((distribution * np.linspace(0, 1, distribution.shape[-1])).sum(axis=-1))


def variance(distribution: Array) -> Array:
    """Variance of answers scored 0 .. 1 along the scale: [...]."""
    scores = np.linspace(0, 1, distribution.shape[-1])
    return np.asarray((distribution * (scores - mean_score(distribution)[..., None]) ** 2).sum(axis=-1))


def variance_ratio(real: Array, simulated: Array) -> Array:
    """Variance of the simulated answers by that of the real ones, below 1 where a model makes people too much alike: [...].

    Infinite, or not a number, where people all gave one answer.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(variance(simulated) / variance(real))
