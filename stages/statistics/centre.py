"""Whether something came nearer to the centre, and by how much."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.statistics.bootstrap import DRAWS, Estimate, crossed_mean, interval
from stages.statistics.calibration import Correct

Conclusion = Literal["nearer", "farther", "undecided"]


@dataclass(frozen=True)
class Approach:
    """Where a mean was and is, seen from the centre."""

    before: Estimate
    "mean minus centre"
    after: Estimate
    "mean minus centre"
    nearer: Estimate
    "the distance before minus the distance after, both without their signs: above 0 it came nearer"

    @property
    def conclusion(self) -> Conclusion:
        """What may be said at 5 %."""
        return "nearer" if self.nearer.low > 0 else "farther" if self.nearer.high < 0 else "undecided"

    def figures(self) -> dict[str, dict[str, float] | float | str]:
        """As metric files hold it: how much nearer, and ``before`` and ``after``."""
        return {**self.nearer.figures(), "before": self.before.figures(), "after": self.after.figures(), "conclusion": self.conclusion}


def approach(before: NDArray[np.float64], after: NDArray[np.float64], kinds: NDArray[np.int64], centre: float, seed: int, correct: Correct | None = None) -> Approach | None:
    """Compare the mean of ``after`` with that of ``before``, both [items, cells] for the same items and cells; items are balanced over ``kinds`` [items].

    Both are resampled alike, so what is common to them drops out of the interval of their difference. ``correct`` turns a mean and its draws into what
    they stand for, before ``centre`` is subtracted. Only cells that both have count; None if they are so few that a resample may hold none.
    """
    both = np.isfinite(before) & np.isfinite(after)
    if not both.any():
        return None

    def from_centre(value: float, draws: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, draws = correct(value, draws) if correct else (value, draws)
        return value - centre, draws - centre

    old, new = (np.where(both, values, np.nan) for values in (before, after))
    (was, was_draws), (now, now_draws), (gap, gap_draws) = (crossed_mean(values, kinds, seed) for values in (old, new, old - new))
    if len(was_draws) < DRAWS:
        return None
    start, start_draws = from_centre(was, was_draws)
    end, end_draws = from_centre(was - gap, was_draws - gap_draws)  # by the draws of the difference, from which what both share has dropped out
    nearer = interval(abs(start) - abs(end), np.abs(start_draws) - np.abs(end_draws))
    return Approach(interval(start, start_draws), interval(*from_centre(now, now_draws)), nearer)
