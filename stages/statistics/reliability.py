"""Reliability: how much of a measurement would come out the same if it were taken again."""

import numpy as np
from numpy.typing import NDArray

from stages.statistics.undefined import Undefined

SPLITS = 200


def split_half(values: NDArray[np.float64], seed: int) -> float | Undefined:
    """Split-half reliability of the row means of ``values`` [a, b], over random halves of the columns.

    The correlation over rows between the means of two halves of the columns is that of a measurement half as long; Spearman and Brown's formula
    (1910) steps it up to all b columns, r_k = k r / (1 + (k - 1) r) with k = b / (columns in a half). If b is odd, each split leaves one column out. The
    correlation is averaged over 200 splits before it is stepped up.

    1: the columns agree fully. 0: they tell as much as noise. A correlation below zero is returned as it is, because the formula is not meant for it.
    Undefined with fewer than two columns or three rows, or if the rows of a half do not differ.
    """
    rows, columns = values.shape
    half = columns // 2
    if not half or rows < 3:
        return Undefined(f"halves need at least 2 columns and 3 rows; there are {columns} and {rows}")
    random = np.random.default_rng(seed)
    order = random.permuted(np.tile(np.arange(columns), (SPLITS, 1)), axis=1)
    first, second = (values[:, order[:, start : start + half]].mean(axis=2) for start in (0, half))  # [a, splits]
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    sizes = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    if sizes.min() <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return Undefined("the rows of a half do not differ")
    correlation = float(((first * second).sum(axis=0) / sizes).mean())
    longer = columns / half
    return longer * correlation / (1 + (longer - 1) * correlation) if correlation > 0 else correlation
