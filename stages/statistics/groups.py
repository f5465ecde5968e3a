"""Answers of weighted respondents, their subgroups, and what changes when other respondents had been drawn.

Answers are arrays [n, k] with one row a respondent: 1 at the option that a person chose, or a model's probabilities.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.statistics.bootstrap import DRAWS, LEVEL, Estimate

Array = NDArray[np.float64]
Measure = Callable[[Array, Array], Array]
"(real [..., k], simulated [..., k]) -> [...]"


def chosen(answers: Sequence[int], k: int) -> Array:
    """Chosen options [n] as answers [n, k]."""
    return np.eye(k)[np.asarray(answers, dtype=np.int64)]


def effective_size(weights: Array) -> float:
    """How many equally weighted respondents tell as much as these: (Σ w)² / Σ w² (Kish 1965, Survey Sampling, section 11.7)."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def distribution(answers: Array, weights: Array) -> Array:
    """Weighted distribution [k] of ``answers`` [n, k]."""
    return np.asarray(weights @ answers / weights.sum())


@dataclass(frozen=True)
class Group:
    """How one subgroup answers."""

    name: str
    n: int
    "respondents"
    effective: float
    "of them, as if equally weighted"
    enough: bool
    "whether they are enough to say anything"
    real: Array
    "[k]"
    simulated: Array
    "[k]"


def groups(labels: Sequence[str | None], real: Array, simulated: Array, weights: Array, least: float) -> list[Group]:
    """The subgroups by label [n], in alphabetical order, with ``real`` and ``simulated`` answers [n, k]; who has no label is in none.

    A group of an effective size below ``least`` is marked as too small.
    """
    found = []
    for name in sorted({label for label in labels if label is not None}):
        members = np.array([label == name for label in labels])
        size = effective_size(weights[members])
        distributions = (distribution(answers[members], weights[members]) for answers in (real, simulated))
        found.append(Group(name, int(members.sum()), size, size >= least, *distributions))
    return found


def parity_difference(distributions: Array) -> Array:
    """Largest difference between groups in the share of each option: ``distributions`` [..., g, k] -> [..., k].

    The demographic parity difference, once for each option taken as the favourable outcome.
    """
    return np.asarray(distributions.max(axis=-2) - distributions.min(axis=-2))


def parity_gap(real: Array, simulated: Array) -> Array:
    """How much larger the parity differences are among simulated than among real answers, mean over options: [..., g, k] -> [...].

    Above 0 a model exaggerates how groups differ, below 0 it flattens them.
    """
    return np.asarray((parity_difference(simulated) - parity_difference(real)).mean(axis=-1))


@dataclass(frozen=True)
class Worst:
    """The subgroup that a model answers for least well."""

    name: str
    value: float
    "its divergence"
    gap: float
    "by how much that exceeds the mean over groups"


def worst_group(divergences: Mapping[str, float]) -> Worst | None:
    """The group of the largest divergence; none where there are not two groups to compare."""
    if len(divergences) < 2:
        return None
    name = max(divergences, key=lambda group: divergences[group])
    return Worst(name, divergences[name], divergences[name] - float(np.mean(list(divergences.values()))))


class Resampler:
    """Bootstrap over respondents: draws as many respondents as there are, with all that each one answered.

    One resampler for several items, groups or models gives all of them the same draws, so that differences between them are paired.
    """

    def __init__(self, respondents: Sequence[str], seed: int, draws: int = DRAWS) -> None:
        """``respondents`` are ids; one that occurs again counts once."""
        self._places = {name: i for i, name in enumerate(dict.fromkeys(respondents))}
        n = len(self._places)
        self._times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float32)  # [b, n]

    def distributions(self, respondents: Sequence[str], answers: Array, weights: Array) -> Array:
        """Weighted distributions [b, k] of the ``answers`` [n, k] of ``respondents`` [n], one a draw.

        A draw in which none of them occurs is not a number.
        """
        times = self._times[:, [self._places[name] for name in respondents]] * weights  # [b, n]
        with np.errstate(invalid="ignore"):
            return np.asarray(times @ answers / times.sum(axis=1, keepdims=True))


def divergence(value: float, draws: Array) -> Estimate:
    """A divergence, 0 or more, freed of what sampling adds to it, with its interval.

    Even people who answer alike differ in a sample, so a divergence is too large by about as much as its bootstrap draws [b] exceed it. The value
    is corrected by that, and the interval is the pivotal one (Davison and Hinkley 1997, Bootstrap Methods and their Application, section 2.4),
    both cut off at 0. Draws that are not a number are left out.
    """
    draws = draws[~np.isnan(draws)]
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(*(max(0.0, float(2 * value - drawn)) for drawn in (draws.mean(), high, low)))


def measured(measure: Measure, resampler: Resampler, respondents: Sequence[str], real: Array, simulated: Array, weights: Array) -> tuple[float, Array]:
    """``measure`` of the weighted distributions of ``real`` and ``simulated`` answers [n, k], and its bootstrap draws [b]."""
    value = float(measure(distribution(real, weights), distribution(simulated, weights)))
    return value, measure(resampler.distributions(respondents, real, weights), resampler.distributions(respondents, simulated, weights))
