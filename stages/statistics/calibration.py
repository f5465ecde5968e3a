"""Means of a judge's scores, corrected with what the judge makes of texts whose true scores are known.

A judge's scores f of texts with gold scores y show how it errs; the mean score of other texts is corrected accordingly, and the interval of the
corrected mean carries both uncertainties: that of the mean and that of the calibration, by resampling the texts and the gold set independently.

- :func:`by_line` fits f = a + b y + error to the gold set and reads the line backwards, mean y = (mean f - a) / b (classical calibration: Osborne 1991,
  International Statistical Review 59:309). It needs only that the judge treats texts of one true score alike in both sets, whatever scores are
  frequent in them; Lee et al. 2025 (arXiv 2511.21140) show the same for pass rates, corrected as by Rogan and Gladen (1978).
- :func:`by_offset` subtracts the mean error, mean y = mean f - mean(f - y) (prediction-powered inference for a mean: Angelopoulos et al. 2023, Science
  382:669). It is the narrower one, but right only if texts are drawn like the gold set, or the error does not depend on the score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.statistics.bootstrap import DRAWS, Estimate, interval
from stages.statistics.undefined import Undefined


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

    def correct(self, value: float, draws: NDArray[np.float64]) -> Estimate:
        """The true mean of texts whose judged mean is ``value``, with bootstrap ``draws`` [draws] as of :func:`stages.statistics.bootstrap.crossed_mean`."""
        corrected = self.gold_mean + (value - self.judge_mean) / self.slope
        return interval(corrected, self.gold_means + (draws - self.judge_means) / self.slopes)

    def correct_difference(self, value: float, draws: NDArray[np.float64]) -> Estimate:
        """The true difference between two sets of texts whose judged means differ by ``value``: an offset cancels, a slope does not."""
        return interval(value / self.slope, draws / self.slopes)

    def figures(self) -> dict[str, dict[str, float]]:
        """As metric files hold it: the judge's slope, and its offset at the gold set's mean."""
        offset = interval(self.judge_mean - self.gold_mean, self.judge_means - self.gold_means)
        return {"slope": interval(self.slope, self.slopes).figures(), "offset": offset.figures()}


def by_offset(judged: NDArray[np.float64], gold: NDArray[np.float64], groups: Sequence[object], seed: int) -> Calibration:
    """The calibration that shifts: ``judged`` and ``gold`` [n], resampled by ``groups`` [n] (a text of its own, or its topic)."""
    weights = _resampled(groups, seed)
    one = np.ones(len(weights))
    return Calibration(float(judged.mean()), float(gold.mean()), 1.0, weights @ judged, weights @ gold, one)


def by_line(judged: NDArray[np.float64], gold: NDArray[np.float64], groups: Sequence[object], seed: int) -> Calibration | Undefined:
    """The calibration that shifts and stretches: ``judged`` and ``gold`` [n], resampled by ``groups`` [n] (a text of its own, or its topic).

    Undefined if the judge's scores do not rise with gold in every resample: a mean of theirs then says nothing about the true one.
    """
    weights = _resampled(groups, seed)
    judge_means, gold_means = weights @ judged, weights @ gold
    variances = weights @ gold**2 - gold_means**2
    if variances.min() <= 0:
        return Undefined("gold scores do not differ")
    slopes = (weights @ (judged * gold) - judge_means * gold_means) / variances
    if slopes.min() <= 0:
        return Undefined("the judge's scores do not reliably rise with gold scores")
    slope = float(np.polyfit(gold, judged, 1)[0])
    return Calibration(float(judged.mean()), float(gold.mean()), slope, judge_means, gold_means, slopes)


def _resampled(groups: Sequence[object], seed: int) -> NDArray[np.float64]:
    """How much each text counts in bootstrap resamples of whole groups, [draws, n]; each row sums to 1."""
    members = np.unique([str(group) for group in groups], return_inverse=True)[1]
    n = int(members.max()) + 1
    random = np.random.default_rng([seed, len(groups)])  # its own stream: the draws that it meets are made with the same seed
    counts = random.multinomial(n, np.full(n, 1 / n), size=DRAWS)[:, members].astype(np.float64)
    shares: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return shares
