"""Everything that is said about one mean difference: how large, how certain, and whether it is small enough not to matter."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.results import Figures
from stages.statistics import equivalence
from stages.statistics.bootstrap import Estimate, crossed_mean, interval
from stages.statistics.effects import hedges_g
from stages.statistics.equivalence import Equivalence
from stages.statistics.permutation import sign_flip
from stages.statistics.undefined import Undefined

ALPHA = 0.05
Conclusion = Literal["higher", "lower", "equivalent", "higher but equivalent", "lower but equivalent", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """A mean difference, tested."""

    estimate: Estimate
    p: float
    "of no difference"
    size: Estimate | Undefined
    "Hedges' g"
    equivalence: Equivalence

    @property
    def conclusion(self) -> Conclusion:
        """What may be said: a difference needs p below 5 %, the claim that there is none a passed equivalence test; both hold of one that is real but small."""
        equivalent = self.equivalence.equivalent
        if self.p >= ALPHA:
            return "equivalent" if equivalent else "undecided"
        if self.estimate.value > 0:
            return "higher but equivalent" if equivalent else "higher"
        return "lower but equivalent" if equivalent else "lower"

    def figures(self) -> dict[str, Figures | float | str]:
        """As metric files hold it."""
        found: dict[str, Figures | float | str] = {**self.estimate.figures(), "p": self.p, "equivalence": self.equivalence.figures(), "conclusion": self.conclusion}
        return found if isinstance(self.size, Undefined) else {**found, "g": self.size.figures()}


def compare(differences: NDArray[np.float64], kinds: NDArray[np.int64], margin: float, seed: int) -> Comparison:
    """Test paired ``differences`` [items, cells] against zero and against ``margin``; items are balanced over ``kinds`` [items].

    The interval resamples items, within their kind, and cells; the p-value and the effect size count each item once, as the mean of its cells. Missing
    cells (NaN) are left out, and items without any.

    :raises ValueError: if nothing is left.
    """
    there = np.isfinite(differences).any(axis=1)
    differences, kinds = differences[there], kinds[there]
    value, draws = crossed_mean(differences, kinds, seed)
    rows = np.nanmean(differences, axis=1)[:, None]
    return Comparison(interval(value, draws), sign_flip(rows, kinds, seed), hedges_g(rows, kinds), equivalence.from_draws(draws, margin))
