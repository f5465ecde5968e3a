"""Everything that is said about one mean difference: how large, how certain, and whether it is small enough not to matter."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.core.results import Figures
from stages.statistics import equivalence
from stages.statistics.bootstrap import DRAWS, Estimate, crossed_mean, interval
from stages.statistics.calibration import Correct
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
    uncorrected: Estimate | None = None
    "the estimate before it was corrected; none if it was not"

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
        found |= {"uncorrected": self.uncorrected.figures()} if self.uncorrected else {}
        return found if isinstance(self.size, Undefined) else {**found, "g": self.size.figures()}


def compare(differences: NDArray[np.float64], kinds: NDArray[np.int64], margin: float, seed: int, correct: Correct | None = None, *, shifts: bool = False) -> Comparison:
    """Test paired ``differences`` [items, cells] against zero and against ``margin``; items are balanced over ``kinds`` [items].

    The interval resamples items, within their kind, and cells; the p-value and the effect size count each item once, as the mean of its cells. Missing
    cells (NaN) are left out, and items without any.

    ``correct`` turns a mean difference and its draws into what they stand for; interval and equivalence are then those of the corrected one. Where it
    ``shifts`` zero, by an amount that is uncertain itself, the p-value is not below that of the draws, as permutations know nothing of that uncertainty.

    :raises ValueError: if nothing is left.
    """
    there = np.isfinite(differences).any(axis=1)
    differences, kinds = differences[there], kinds[there]
    value, draws = crossed_mean(differences, kinds, seed)
    rows = np.nanmean(differences, axis=1)[:, None]
    p, size, raw = sign_flip(rows, kinds, seed), hedges_g(rows, kinds), interval(value, draws)
    if not correct or len(draws) < DRAWS:  # fewer if some resample holds no cell: too few to correct
        return Comparison(raw, p, size, equivalence.from_draws(draws, margin))
    value, draws = correct(value, draws)
    beyond = 2 * (1 + min(int((draws <= 0).sum()), int((draws >= 0).sum()))) / (1 + len(draws))
    return Comparison(interval(value, draws), max(p, min(1.0, beyond)) if shifts else p, size, equivalence.from_draws(draws, margin), raw)
