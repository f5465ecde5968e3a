"""Means of a judge's scores, corrected with what the judge makes of texts whose true scores are known.

A judge's scores f of texts with gold scores y show how it errs; the mean score of other texts is corrected accordingly, and the draws of the
corrected mean carry both uncertainties: that of the mean and that of the calibration, by resampling the texts and the gold set independently.

The line f = a + b y + error is fitted to the gold set and read backwards, mean y = (mean f - a) / b (classical calibration: Osborne 1991, International
Statistical Review 59:309). It needs only that the judge treats texts of one true score alike in both sets, whatever scores are frequent in them; Lee et
al. 2025 (arXiv 2511.21140) show the same for pass rates, corrected as by Rogan and Gladen (1978).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stages.statistics.bootstrap import DRAWS, interval
from stages.statistics.undefined import Undefined

Correct: TypeAlias = Callable[[float, NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
"A judged mean and its bootstrap draws [draws], as of :func:`stages.statistics.bootstrap.crossed_mean`, to the true mean and its draws."


@dataclass(frozen=True)
class Calibration:
    """How a judge's mean score follows the true one: judge = judge_mean + slope x (truth - gold_mean)."""

    judge_mean: float
    gold_mean: float
    slope: float
    judge_means: NDArray[np.float64]
    "[draws], the same in resamples of the gold set"
    gold_means: NDArray[np.float64]
    "[draws]"
    slopes: NDArray[np.float64]
    "[draws]"

    def correct(self, value: float, draws: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The true mean of texts whose judged mean is ``value``, with ``draws`` [draws]."""
        return self.true(value), self.gold_means + (draws - self.judge_means) / self.slopes

    def correct_difference(self, value: float, draws: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The true difference between two sets of texts whose judged means differ by ``value``, with ``draws`` [draws]: an offset cancels, a slope does not."""
        return value / self.slope, draws / self.slopes

    def true(self, judged: float) -> float:
        """The true mean of texts whose judged mean is ``judged``."""
        return self.gold_mean + (judged - self.judge_mean) / self.slope

    def judged(self, truth: float) -> float:
        """The judged mean of texts whose true mean is ``truth``."""
        return self.judge_mean + self.slope * (truth - self.gold_mean)

    def figures(self) -> dict[str, dict[str, float]]:
        """As metric files hold it: the judge's slope, and its offset at the gold set's mean."""
        offset = interval(self.judge_mean - self.gold_mean, self.judge_means - self.gold_means)
        return {"slope": interval(self.slope, self.slopes).figures(), "offset": offset.figures()}


def by_line(judged: NDArray[np.float64], gold: NDArray[np.float64], seed: int) -> Calibration | Undefined:
    """The calibration that ``judged`` and ``gold`` scores [n] of the same texts give, with its draws over the texts.

    Undefined if the judge's scores do not rise with gold in every resample: a mean of theirs then says nothing about the true one.
    """
    weights = _resampled(len(gold), seed)
    judge_means, gold_means = weights @ judged, weights @ gold
    variances = weights @ gold**2 - gold_means**2
    if variances.min() <= 0:
        return Undefined("gold scores do not differ")
    slopes = (weights @ (judged * gold) - judge_means * gold_means) / variances
    if slopes.min() <= 0:
        return Undefined("the judge's scores do not reliably rise with gold scores")
    slope = float(np.polyfit(gold, judged, 1)[0])
    return Calibration(float(judged.mean()), float(gold.mean()), slope, judge_means, gold_means, slopes)


def _resampled(n: int, seed: int) -> NDArray[np.float64]:
    """How much each of ``n`` texts counts in bootstrap resamples, [draws, n]; each row sums to 1."""
    random = np.random.default_rng([seed, n])  # its own stream: the draws that it meets are made with the same seed
    return random.multinomial(n, np.full(n, 1 / n), size=DRAWS) / n
