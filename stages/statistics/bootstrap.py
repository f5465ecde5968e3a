"""Bootstrap intervals for means of values that belong to clusters."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty."""

    value: float
    low: float
    "lower end of the 95 % interval"
    high: float
    "upper end of the 95 % interval"

    def figures(self) -> dict[str, float]:
        """As metric files hold it."""
        return {"value": self.value, "low": self.low, "high": self.high}


def interval(value: float, draws: NDArray[np.float64]) -> Estimate:
    """The percentile interval of bootstrap ``draws`` [n] around ``value``."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))


def crossed_mean(values: NDArray[np.float64], strata: NDArray[np.int64], seed: int) -> tuple[float, NDArray[np.float64]]:
    """The mean of ``values`` [a, b] and its bootstrap draws [n], resampling rows and columns, rows within their ``strata`` [a].

    The weight of a cell is how often its row and its column were drawn, multiplied (Owen 2007, "The pigeonhole bootstrap", Annals of Applied
    Statistics 1:386), which is slightly conservative. Strata keep a balance by design: each draw has as many rows of each as the data. Missing cells (NaN)
    are left out of the mean.

    :raises ValueError: if all cells are missing.
    """
    there = np.isfinite(values)
    if not there.any():
        raise ValueError("there is no value to take the mean of")
    random = np.random.default_rng(seed)
    rows = np.zeros((DRAWS, len(values)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        rows[:, members] = random.multinomial(len(members), np.full(len(members), 1 / len(members)), size=DRAWS)
    columns = random.multinomial(values.shape[1], np.full(values.shape[1], 1 / values.shape[1]), size=DRAWS).astype(np.float64)
    sums = np.einsum("da,ab,db->d", rows, np.where(there, values, 0.0), columns, optimize=True)
    weights = np.einsum("da,ab,db->d", rows, there.astype(np.float64), columns, optimize=True)
    return float(values[there].mean()), sums[weights > 0] / weights[weights > 0]


def estimate(values: NDArray[np.float64], strata: NDArray[np.int64], seed: int) -> Estimate:
    """The mean of ``values`` [a, b] with the interval of :func:`crossed_mean`."""
    return interval(*crossed_mean(values, strata, seed))
