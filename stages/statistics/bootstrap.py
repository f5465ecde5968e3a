"""Bootstrap intervals for means of values that belong to clusters."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

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

    def within(self, least: float, most: float) -> "Estimate":
        """The same with ends that are cut off at the ``least`` and the ``most`` that the figure can be."""
        return Estimate(self.value, max(self.low, least), min(self.high, most))

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

    Percentiles of such draws lie too close together where rows or columns are few. Two corrections answer that (Hesterberg 2015, "What teachers should know
    about the bootstrap", The American Statistician 69:371). Of n rows or columns n - 1 are drawn, as n would vary less than means of n do, by
    (n - 1) / n. And the draws are stretched around the mean as far as the 2.5 % quantile of Student's t lies beyond the normal one, with the degrees of
    freedom of both variances together (Satterthwaite 1946, Biometrics Bulletin 2:110): with two columns that differ, the interval is wide, as two of anything
    hardly tell how much they vary. How often the intervals cover the truth in simulated data is asserted in tests/statistics/test_bootstrap.py; least often where there
    are two columns only and these differ far more than rows do. 90 % intervals are slightly too wide.

    :raises ValueError: if all cells are missing.
    """
    there = np.isfinite(values)
    if not there.any():
        raise ValueError("there is no value to take the mean of")
    rows_there = there.any(axis=1)
    if rows_there.sum() > 1:  # empty rows tell nothing; a single one would look certain without them
        values, strata, there = values[rows_there], strata[rows_there], there[rows_there]
    random = np.random.default_rng(seed)
    rows = np.zeros((DRAWS, len(values)))
    kinds = np.unique(strata)
    for kind in kinds:
        members = np.flatnonzero(strata == kind)
        rows[:, members] = _drawn(random, len(members))
    columns = _drawn(random, values.shape[1])
    content, weight = np.where(there, values, 0.0), there.astype(np.float64)

    def means(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
        sums, weights = (np.einsum("da,ab,db->d", rows, cells, columns, optimize=True) for cells in (content, weight))
        found: NDArray[np.float64] = sums[weights > 0] / weights[weights > 0]
        return found

    value = float(values[there].mean())
    by_rows, by_columns = means(rows, np.ones((1, values.shape[1]))).var(), means(np.ones((1, len(values))), columns).var()
    parts = [(by_rows, len(values) - len(kinds)), (by_columns, values.shape[1] - 1)]
    return value, value + (means(rows, columns) - value) * _stretch([(variance, freedom) for variance, freedom in parts if freedom])


def nested(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each row of ``values`` [a, b], [a, 1], whose cells are draws of their row, such as repeated answers to a question.

    Rows of such values have no columns in common, so rows alone are resampled: what cells vary by is part of what the means of rows do (Davison and Hinkley
    1997, Bootstrap Methods and their Application, section 3.8). Each row counts once, however many of its cells are missing (NaN); one without any stays NaN.
    """
    there = np.isfinite(values)
    sums, counts = np.where(there, values, 0.0).sum(axis=1), there.sum(axis=1)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return means[:, None]


def _drawn(random: np.random.Generator, n: int) -> NDArray[np.float64]:
    """The weight of each of ``n`` in draws of n - 1, [draws, n]; the weights of a draw add up to n."""
    times = max(1, n - 1)
    return np.asarray(random.multinomial(times, np.full(n, 1 / n), size=DRAWS) * (n / times), dtype=np.float64)


def _stretch(parts: list[tuple[float, int]]) -> float:
    """How much farther out Student's t lies than the normal distribution, for a sum of independent ``parts``: variance and degrees of freedom of each."""
    total = sum(variance for variance, _ in parts)
    if not total:
        return 1.0
    freedom = total**2 / sum(variance**2 / n for variance, n in parts)
    tail = (1 + LEVEL) / 2
    return float(t.ppf(tail, freedom) / norm.ppf(tail))


def estimate(values: NDArray[np.float64], strata: NDArray[np.int64], seed: int) -> Estimate:
    """The mean of ``values`` [a, b] with the interval of :func:`crossed_mean`."""
    return interval(*crossed_mean(values, strata, seed))
