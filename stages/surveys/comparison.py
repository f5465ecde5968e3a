"""Real and simulated answers side by side: every item and subgroup, then the figures of a model over all of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from stages.core.results import Figures
from stages.statistics import coefficients, distributions
from stages.statistics.bootstrap import Estimate, interval
from stages.statistics.groups import Array, Resampler, distribution, divergence, effective_size, parity_difference, parity_gap, worst_group

EVERYBODY = "everybody"


@dataclass(frozen=True)
class Answered:
    """One item and who answered it."""

    item: str
    respondents: tuple[str, ...]
    "[n], each once"
    real: Array
    "[n, k], 1 at the chosen option, in the order of the scale"
    simulated: Mapping[str, Array]
    "by model, [n, k]"
    weights: Array
    "[n], survey weights"
    attributes: Mapping[str, Sequence[str | None]]
    "of the respondents, [n] each"


@dataclass(frozen=True)
class Cell:
    """How one group answers one item."""

    item: str
    attribute: str
    "or ``everybody``"
    group: str
    "its label"
    n: int
    effective: float
    "respondents as if equally weighted"
    enough: bool
    "whether they are enough to say anything"
    real: Array
    "[k]"
    simulated: Mapping[str, Array]
    "by model, [k]"
    real_draws: Array
    "[b, k], bootstrap over respondents"
    simulated_draws: Mapping[str, Array]
    "by model, [b, k], from the same draws"

    def measured(self, name: str, model: str) -> tuple[float, Array]:
        """A measure of :data:`MEASURES` and its bootstrap draws [b]."""
        measure = MEASURES[name]
        return float(measure(self.real, self.simulated[model], self.effective)), measure(self.real_draws, self.simulated_draws[model], self.effective)


Measure = Callable[[Array, Array, float], Array]
"(real [..., k], simulated [..., k], effective respondents) -> [...]"
DIVERGENCES: dict[str, Measure] = {
    "kl": lambda real, simulated, _: distributions.kl(real, simulated),
    "chi2": distributions.chi_square,
    "cramers_v": lambda real, simulated, _: distributions.cramers_v(real, simulated),
    "js_distance": lambda real, simulated, _: distributions.js_distance(real, simulated),
    "wasserstein": lambda real, simulated, _: distributions.wasserstein(real, simulated),
}
"0 if the answers are the same."
LIKENESSES: dict[str, Measure] = {
    "cosine": lambda real, simulated, _: distributions.cosine(real, simulated),
    "jaccard": lambda real, simulated, _: distributions.jaccard(real, simulated),
    "variance_ratio": lambda real, simulated, _: distributions.variance_ratio(real, simulated),
}
"1 if the answers are the same."
MEASURES = DIVERGENCES | LIKENESSES


def cells(answered: Sequence[Answered], resampler: Resampler, least: float) -> list[Cell]:
    """Everybody and every subgroup for every item; a group of an effective size below ``least`` is marked as too small."""
    return [cell for one in answered for cell in _cells_of(one, resampler, least)]


def _cells_of(one: Answered, resampler: Resampler, least: float) -> Iterator[Cell]:
    models = list(one.simulated)
    together = np.hstack([one.real, *one.simulated.values()])
    members = {(EVERYBODY, EVERYBODY): np.ones(len(one.respondents), dtype=bool)}
    for attribute, labels in one.attributes.items():
        members |= {(attribute, label): np.array([other == label for other in labels]) for label in sorted({label for label in labels if label is not None})}
    for (attribute, label), chosen in members.items():
        size = effective_size(one.weights[chosen])
        names = [name for name, there in zip(one.respondents, chosen, strict=True) if there]
        real, *simulated = np.split(distribution(together[chosen], one.weights[chosen]), len(models) + 1)
        draws = np.split(resampler.distributions(names, together[chosen], one.weights[chosen]), len(models) + 1, axis=1)
        by_model, draws_by_model = dict(zip(models, simulated, strict=True)), dict(zip(models, draws[1:], strict=True))
        enough = size >= least or attribute == EVERYBODY
        yield Cell(one.item, attribute, label, int(chosen.sum()), size, enough, real, by_model, draws[0], draws_by_model)


def over(some: Sequence[Cell], name: str, model: str) -> tuple[float, Array]:
    """The mean of a measure over cells, and its bootstrap draws [b]; cells without a finite value are left out."""
    found = [cell.measured(name, model) for cell in some]
    found = [one for one in found if np.isfinite(one[0])]
    if not found:
        return float("nan"), np.array([])
    return float(np.mean([value for value, _ in found])), np.mean([draws for _, draws in found], axis=0)


def overall(some: Sequence[Cell]) -> list[Cell]:
    """The cells of everybody."""
    return [cell for cell in some if cell.attribute == EVERYBODY]


def subgroups(some: Sequence[Cell]) -> list[Cell]:
    """The cells of groups that are large enough."""
    return [cell for cell in some if cell.attribute != EVERYBODY and cell.enough]


def figures(answered: Sequence[Answered], some: Sequence[Cell], model: str, stated: Sequence[str]) -> Figures:
    """All measures of one model over ``some`` cells: means over items, and with ``_groups`` over items and subgroups.

    Divergences are freed of what sampling adds to them (:func:`stages.statistics.groups.divergence`).
    """
    found: dict[str, Figures | float] = {}
    for suffix, chosen in (("", overall(some)), ("_groups", subgroups(some))):
        for name in MEASURES:
            value, draws = over(chosen, name, model)
            draws = draws[np.isfinite(draws)]
            if np.isfinite(value) and len(draws):
                found[name + suffix] = (divergence(value, draws) if name in DIVERGENCES else interval(value, draws)).figures()
    found["log_loss"] = log_loss(answered, model)
    found |= parity(some, model)
    by_group: dict[str, list[Cell]] = {}
    for cell in subgroups(some):
        by_group.setdefault(f"{cell.attribute}: {cell.group}", []).append(cell)
    worst = worst_group({name: over(own, "kl", model)[0] for name, own in by_group.items()})
    if worst:
        found["worst_group"] = {"group": worst.name, "kl": worst.value, "gap": worst.gap}
    signs = sign_agreement(answered, model, stated)
    return found | ({"sign_agreement": signs} if signs else {})


def log_loss(answered: Sequence[Answered], model: str) -> float:
    """Weighted mean of -ln of the probability that the model gave to what each respondent answered, at least .001 of it, over items."""
    means = []
    for one in answered:
        given = (one.simulated[model] * one.real).sum(axis=1)
        means.append(float((one.weights * -np.log(np.maximum(given, distributions.SMOOTHING))).sum() / one.weights.sum()))
    return float(np.mean(means))


def parity(some: Sequence[Cell], model: str) -> dict[str, Figures | float]:
    """Demographic parity: how far groups lie apart in simulated and in real answers, and the difference (below 0: flattened), mean over items and attributes."""
    simulated, real, gaps, draws = [], [], [], []
    for _, found in groupby(sorted(subgroups(some), key=lambda cell: (cell.item, cell.attribute)), key=lambda cell: (cell.item, cell.attribute)):
        own = list(found)
        if len(own) < 2:
            continue
        theirs, people = np.stack([cell.simulated[model] for cell in own]), np.stack([cell.real for cell in own])
        simulated.append(float(parity_difference(theirs).mean()))
        real.append(float(parity_difference(people).mean()))
        gaps.append(float(parity_gap(people, theirs)))
        draws.append(parity_gap(np.stack([cell.real_draws for cell in own], axis=1), np.stack([cell.simulated_draws[model] for cell in own], axis=1)))
    drawn = np.mean(draws, axis=0) if draws else np.array([])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return {}
    ends = interval(0.0, drawn)
    value = 2 * float(np.mean(gaps))  # pivotal: the largest of several differences is overestimated in real answers, and more so in draws of them
    gap = Estimate(value - float(drawn.mean()), value - ends.high, value - ends.low)
    return {"parity_difference": float(np.mean(simulated)), "parity_difference_real": float(np.mean(real)), "parity_gap": gap.figures()}


def sign_agreement(answered: Sequence[Answered], model: str, stated: Sequence[str]) -> Figures | None:
    """Share of the regression coefficients on the ``stated`` attributes that have the sign of the real ones, over items; none if no real one is clear."""
    same, n = 0.0, 0
    for one in answered:
        _, known = coefficients.indicators({name: one.attributes[name] for name in stated})
        real, simulated = distributions.mean_score(one.real), distributions.mean_score(one.simulated[model])
        found = coefficients.sign_agreement(real, simulated, known, one.weights)
        if found:
            same, n = same + found.share * found.n, n + found.n
    return {"share": same / n, "n": n} if n else None


def reduction(some: Sequence[Cell], name: str, before: str, after: str) -> Estimate | None:
    """The share 1 - D_after / D_before by which a mean divergence falls from one model to another, with its interval; none if there is nothing to reduce.

    Both divergences are freed of what sampling adds to them, and so are their bootstrap draws, as in :func:`stages.statistics.groups.divergence`;
    both come from the same respondents.
    """
    if not some:
        return None
    (old, old_draws), (new, new_draws) = over(some, name, before), over(some, name, after)
    usable = np.isfinite(old_draws) & np.isfinite(new_draws)
    if not usable.any():
        return None

    def freed(value: float, draws: Array) -> tuple[float, Array]:
        return max(0.0, float(2 * value - draws.mean())), np.clip(2 * value - draws, 0, None)

    (old, old_draws), (new, new_draws) = freed(old, old_draws[usable]), freed(new, new_draws[usable])
    there = old_draws > 0
    if old <= 0 or not there.any():
        return None
    return interval(1 - new / old, 1 - new_draws[there] / old_draws[there])
