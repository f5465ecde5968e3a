"""Equivalence tests: is a value so near to zero that the difference does not matter?

A difference that is not significant shows nothing of the kind. Two one-sided tests (TOST) do: equivalence is claimed at 5 % if both "at or below
-margin" and "at or above margin" are rejected at 5 %, which is to say if the 90 % interval lies between the margins (Schuirmann 1987, Journal of
Pharmacokinetics and Biopharmaceutics 15:657; Lakens 2017, Social Psychological and Personality Science 8:355).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05


@dataclass(frozen=True)
class Equivalence:
    """The outcome of a TOST."""

    margin: float
    "the smallest difference that would matter, in the value's unit"
    p: float
    "the larger p-value of both one-sided tests"
    low: float
    "lower end of the 90 % interval"
    high: float
    "upper end of the 90 % interval"

    @property
    def equivalent(self) -> bool:
        """Whether both one-sided tests reject at 5 %."""
        return self.p < ALPHA

    def figures(self) -> dict[str, float | bool]:
        """As metric files hold it."""
        return {"margin": self.margin, "p": self.p, "low": self.low, "high": self.high, "equivalent": self.equivalent}


def from_draws(draws: NDArray[np.float64], margin: float) -> Equivalence:
    """TOST from bootstrap ``draws`` [n] of a value: each p-value is the share of draws at or beyond a margin, so it is at least 1 / (n + 1).

    :raises ValueError: if ``margin`` is not positive.
    """
    if margin <= 0:
        raise ValueError(f"the margin of an equivalence test is {margin}; it must be above 0")
    beyond = max(int((draws <= -margin).sum()), int((draws >= margin).sum()))
    low, high = np.quantile(draws, [ALPHA, 1 - ALPHA])
    return Equivalence(margin, (1 + beyond) / (1 + len(draws)), float(low), float(high))
