"""Rows that a design divides into kinds, such as items keyed in either direction."""

import numpy as np
from numpy.typing import NDArray


def means(rows: NDArray[np.float64], strata: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of each row's stratum, [a], for ``rows`` [a] and their ``strata`` [a]."""
    members = np.unique(strata, return_inverse=True)[1]
    found: NDArray[np.float64] = (np.bincount(members, weights=rows) / np.bincount(members))[members]
    return found
