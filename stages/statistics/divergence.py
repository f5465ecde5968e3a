"""How alike two groups of posts are in their affect: alignment, which of two groups is nearer, entropy, and what these figures look like by chance.

A post gives weight to each of k labels; a group's distribution is the sum of its posts' weights, scaled to 1. Alignment is 1 minus the Jensen-Shannon
distance to base 2 (Lin 1991; the distance is the root of the divergence): 1 for equal distributions, 0 for disjoint ones.

Samples differ by chance even where their groups do not, so the plain figure is too low, and a percentile interval around it hardly ever holds the
truth. Intervals here are basic bootstrap intervals (Davison and Hinkley 1997, section 5.2) on the divergence, which unlike its root is smooth at 0: a
draw d* of the resampled divergence becomes 2 d - d*, which takes the bias out. Near 0 they are wide: they cover more often than they say.
Whole clusters are drawn, as a rule authors, because posts of one author are alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr
from scipy.stats import entropy as shannon

from stages.statistics.bootstrap import DRAWS, Estimate, interval

SPLITS = 200
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Labelled posts of one group."""

    weights: Floats
    "[n, k], of each label in each post; posts without any label are taken out"
    clusters: NDArray[np.int64]
    "[n], 0 to c - 1: posts with one number belong together"

    @classmethod
    def of(cls, weights: ArrayLike, clusters: Sequence[object] | None = None) -> "Sample":
        """A sample of posts [n, k]; ``clusters`` [n] are any values, each post its own cluster without them.

        :raises ValueError: if a weight is negative or not finite, or no post has a label: such a group has no distribution.
        """
        rows = np.asarray(weights, dtype=np.float64)
        if rows.ndim != 2 or not np.isfinite(rows).all() or (rows < 0).any():
            raise ValueError("weights are a table [posts, labels] of finite numbers that are not negative")
        labelled = rows.sum(axis=1) > 0
        if not labelled.any():
            raise ValueError("no post has a label")
        of_all = np.arange(len(rows)) if clusters is None else np.unique(np.asarray([str(value) for value in clusters]), return_inverse=True)[1]
        return cls(rows[labelled], np.unique(of_all[labelled], return_inverse=True)[1])

    @property
    def n(self) -> int:
        """How many posts have a label."""
        return len(self.weights)

    @cached_property
    def distribution(self) -> Floats:
        """[k], sums to 1."""
        return scaled(self.weights.sum(axis=0))

    def draws(self, random: np.random.Generator, draws: int = DRAWS) -> Floats:
        """Distributions of bootstrap samples of as many clusters, [draws, k]."""
        count = int(self.clusters.max()) + 1
        sums = np.zeros((count, self.weights.shape[1]))
        np.add.at(sums, self.clusters, self.weights)
        drawn = random.integers(0, count, size=(draws, count)) + np.arange(draws)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count)  # how often each cluster is drawn; faster than multinomial
        return scaled(times @ sums)


@dataclass(frozen=True)
class Drawn:
    """A figure and the draws that its interval comes from, for averages over topics."""

    estimate: Estimate
    draws: Floats

    @classmethod
    def of(cls, value: float, draws: Floats) -> "Drawn":
        """A figure with the interval of its draws."""
        return cls(interval(value, draws), draws)


@dataclass(frozen=True)
class Alignment:
    """How alike two groups are, 0 to 1."""

    raw: float
    "of the samples as they are, as papers report it; compare it with the floor at the same n only"
    estimate: Estimate
    "of the groups behind the samples: what is too low by chance is corrected"
    draws: Floats
    "[draws], of the estimate, for averages over topics"


def scaled(counts: Floats) -> Floats:
    """``counts`` [..., k] divided by their sums over k."""
    return np.asarray(counts / counts.sum(axis=-1, keepdims=True))


def divergence(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon divergence in bits, 0 to 1, of distributions ``p`` and ``q`` [..., k]."""
    middle = (p + q) / 2
    bits = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1) / (2 * np.log(2))
    return np.asarray(np.clip(bits, 0, 1))  # rounding can leave it a hair outside


def aligned(bits: Floats | float) -> Floats:
    """Alignment that belongs to a divergence; a corrected divergence below 0 counts as 0."""
    return np.asarray(1 - np.sqrt(np.clip(bits, 0, 1)))


def alignment(model: Sample, group: Sample, seed: int, draws: int = DRAWS) -> Alignment:
    """Alignment of two groups with its 95 % interval."""
    random = np.random.default_rng(seed)
    found = float(divergence(model.distribution, group.distribution))
    drawn = divergence(model.draws(random, draws), group.draws(random, draws))
    corrected = aligned(2 * found - drawn)
    return Alignment(float(aligned(found)), interval(float(aligned(2 * found - drawn.mean())), corrected), corrected)


def tendency(model: Sample, first: Sample, second: Sample, seed: int, draws: int = DRAWS) -> Drawn:
    """How much nearer ``model`` is to ``first`` than to ``second``: the difference of its divergences, in bits, with its 95 % interval.

    Above 0: nearer to the first. The difference is taken between divergences, not alignments, because its interval is right at any distance. With
    a human group in the place of ``model`` and two models as ``first`` and ``second``, it tells what the one gains on the other.
    """
    random = np.random.default_rng(seed)

    def difference(to: Floats, a: Floats, b: Floats) -> Floats:
        return np.asarray(divergence(to, b) - divergence(to, a))

    found = difference(model.distribution, first.distribution, second.distribution)
    reflected = 2 * found - difference(model.draws(random, draws), first.draws(random, draws), second.draws(random, draws))
    return Drawn.of(float(reflected.mean()), reflected)


def entropy(sample: Sample, seed: int, draws: int = DRAWS) -> Estimate:
    """Shannon entropy of a group's labels in bits, 0 to log2 k, corrected for what a sample lacks, with its 95 % interval."""
    return _entropy(sample, None, seed, draws).estimate


def entropy_gap(model: Sample, human: Sample, seed: int, draws: int = DRAWS) -> Drawn:
    """Entropy of ``model`` minus that of ``human``, in bits, with its 95 % interval. Below 0: the model varies less."""
    return _entropy(model, human, seed, draws)


def _entropy(sample: Sample, other: Sample | None, seed: int, draws: int) -> Drawn:
    random = np.random.default_rng(seed)
    reflected = np.zeros(draws)
    for sign, group in ((1, sample), (-1, other)):
        if group is not None:
            reflected += sign * (2 * shannon(group.distribution, base=2) - shannon(group.draws(random, draws), base=2, axis=-1))
    highest = np.log2(sample.weights.shape[1])
    return Drawn.of(float(np.clip(reflected.mean(), -highest, highest)), np.clip(reflected, 0 if other is None else -highest, highest))


def floor(group: Sample, n: int, seed: int) -> tuple[Drawn, int]:
    """What chance alone takes from the raw alignment at ``n`` posts: between halves of one group, and the size of the halves.

    Mean over random splits into two parts of ``n`` posts, or of half the group if it is smaller than that, and the range of the middle 95 %. Authors
    go to one part; only where the parts use up the whole group can one author be in both. A model that speaks exactly like the group scores this.

    :raises ValueError: if the group has fewer than two posts.
    """
    n = min(n, group.n // 2)
    if n < 1:
        raise ValueError("a group of fewer than two posts cannot be split")
    random = np.random.default_rng(seed)
    scores = []
    for _ in range(SPLITS):
        place = random.permutation(int(group.clusters.max()) + 1)[group.clusters]
        order = np.lexsort((random.random(group.n), place))
        halves = [scaled(group.weights[part].sum(axis=0)) for part in (order[:n], order[-n:])]
        scores.append(float(aligned(divergence(*halves))))
    return Drawn.of(float(np.mean(scores)), np.array(scores)), n


def raw_at(model: Sample, group: Sample, n: int, seed: int) -> tuple[Drawn, int]:
    """The raw alignment of two groups at ``n`` posts of each, which the floor at that ``n`` can be held against, and the size used.

    Mean over random parts, and the range of the middle 95 %; the smaller group sets the size if it has fewer posts.
    """
    n = min(n, model.n, group.n)
    random = np.random.default_rng(seed)
    scores = []
    for _ in range(SPLITS):
        parts = [scaled(sample.weights[random.permutation(sample.n)[:n]].sum(axis=0)) for sample in (model, group)]
        scores.append(float(aligned(divergence(*parts))))
    return Drawn.of(float(np.mean(scores)), np.array(scores)), n


def average(values: Sequence[float], draws: Sequence[Floats], seed: int) -> Estimate:
    """The mean of a figure over topics with its 95 % interval, for topics like these.

    Each draw resamples the topics and takes a draw of each one's figure, so that it holds both what differs between topics and what is uncertain
    within.

    :param values: the figure of each topic, [t].
    :param draws: the draws of each, [t] of equal length.
    """
    random = np.random.default_rng(seed)
    table = np.stack(list(draws))  # [t, draws]
    topics = random.integers(0, len(table), size=(len(table), table.shape[1]))  # [t, draws]: which topics each draw takes
    within = random.integers(0, table.shape[1], size=topics.shape)
    return interval(float(np.mean(values)), table[topics, within].mean(axis=0))
