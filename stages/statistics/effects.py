"""Effect sizes of paired differences."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, nctdtrinc

from stages.statistics import strata
from stages.statistics.bootstrap import LEVEL, Estimate
from stages.statistics.undefined import Undefined


def hedges_g(differences: NDArray[np.float64], kinds: NDArray[np.int64]) -> Estimate | Undefined:
    """Hedges' g of paired differences with its 95 % interval: the mean difference in standard deviations of the differences between items.

    This is Cohen's d_z = mean / sd times Hedges' correction for small samples, J = Γ(f/2) / (√(f/2) Γ((f-1)/2)), with f degrees of freedom (Lakens
    2013, Frontiers in Psychology 4:863; Hedges 1981). ``differences`` [a, b]: a row is one item and counts once, as the mean of its cells. The
    standard deviation is that within ``kinds`` [a], so that what the design balances does not count as noise; f = a - number of kinds. The
    interval inverts the noncentral t distribution, in which √a x mean / sd lies.

    Undefined where the rows of each kind are all alike, so that there is nothing to express the mean in.
    """
    rows = differences.mean(axis=1)
    freedom = len(rows) - len(np.unique(kinds))
    spread = math.sqrt(float(((rows - strata.means(rows, kinds)) ** 2).sum()) / freedom) if freedom > 1 else 0.0
    if spread <= 1e-12 * max(1.0, float(np.abs(rows).max())):
        return Undefined("items of the same kind do not differ")
    size = math.sqrt(len(rows))
    t = size * float(rows.mean()) / spread
    correction = math.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    low, high = (float(nctdtrinc(freedom, share, t)) for share in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return Estimate(correction * t / size, correction * low / size, correction * high / size)
