"""Words that mark one corpus against another."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def log_odds(first: ArrayLike, second: ArrayLike, background: ArrayLike, strength: float) -> NDArray[np.float64]:
    """z-scores [v] of the log-odds ratio of each of v words between two corpora, with an informative Dirichlet prior.

    Monroe, Colaresi and Quinn (2008), "Fightin' Words", Political Analysis 16:372, equations 15, 16, 22 and 23: with counts y, their sums n, and prior
    counts a that sum to a0,

        delta = log((y1 + a) / (n1 + a0 - y1 - a)) - log((y2 + a) / (n2 + a0 - y2 - a)),  variance = 1 / (y1 + a) + 1 / (y2 + a),  z = delta / sqrt(variance)

    :param first: counts [v] in the one corpus; a word above 0 marks it.
    :param second: counts [v] in the other.
    :param background: counts [v] in a larger corpus, such as both together; a word that is not in it is never marking (z = 0).
    :param strength: a0, how many words the prior is worth; higher: rare words count less.
    :raises ValueError: if the background holds nothing.
    """
    one, two, prior = (np.asarray(counts, dtype=np.float64) for counts in (first, second, background))
    if not prior.sum():
        raise ValueError("the background corpus holds no word")
    prior = prior * (strength / prior.sum())
    known = prior > 0
    one, two, a = one[known], two[known], prior[known]

    def log_odds_of(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.log((counts + a) / (counts.sum() + strength - counts - a)))

    z = np.zeros(len(prior))
    z[known] = (log_odds_of(one) - log_odds_of(two)) / np.sqrt(1 / (one + a) + 1 / (two + a))
    return z
