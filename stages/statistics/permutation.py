"""Permutation tests of paired differences that come in clusters."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

from stages.statistics import strata

RESAMPLES = 9999


def sign_flip(differences: NDArray[np.float64], kinds: NDArray[np.int64], seed: int) -> float:
    """Two-sided p-value of a mean difference of zero.

    ``differences`` [a, b] between two models, items in rows, whose cells of one row are not independent; so whole rows change sign, as they would
    if it did not matter which model is which (Fisher 1935). All 2^a assignments are used where there are fewer than 10,000, else 9,999 random ones.

    Rows of different ``kinds`` [a] may differ by something that the design balances, such as one model agreeing more than the other, which raises
    items keyed one way and lowers those keyed the other way. That contrast is removed before signs change (Freedman and Lane 1983; Winkler et al. 2014,
    "Permutation inference for the general linear model", NeuroImage 92:381): it would drown the mean difference.
    """
    rows = differences.mean(axis=1)
    found = permutation_test(
        (rows - strata.means(rows, kinds) + rows.mean(),),
        lambda sample, axis: sample.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        random_state=seed,
    )
    return float(found.pvalue)
