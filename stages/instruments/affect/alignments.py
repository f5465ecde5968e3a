"""Figures of alignment by topic and averaged over topics.

On each topic the raw alignment of every model, the one between the groups and the floors are taken at one n, the largest that all of them have, so that they
can be held against each other. Averages take topics as clusters (:func:`stages.statistics.divergence.average`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from stages.core.results import Figures
from stages.instruments.affect.samples import GROUPS, Topic, Who, together
from stages.statistics.bootstrap import DRAWS, Estimate
from stages.statistics.divergence import Alignment, Drawn, Sample, alignment, average, entropy_gap, floor, raw_at, tendency

LIBERAL, CONSERVATIVE = GROUPS
UNSTEERED = "none"
Samples = Mapping[Who, Mapping[Topic, Sample]]


@dataclass(frozen=True)
class OfModel:
    """What a model's posts on one topic show."""

    n: int
    "posts with a label"
    alignments: Mapping[str, Alignment]
    "by group"
    raw: Mapping[str, Drawn]
    "by group, at the topic's n"
    tendency: Drawn
    "bits by which it is nearer to liberals than to conservatives"
    entropy_gap: Drawn
    "bits by which its labels are more evenly spread than those of both groups together"
    gain: Drawn | None
    "bits by which steering brought it nearer to the group that it is steered to"


@dataclass(frozen=True)
class OfTopic:
    """What all posts on one topic show."""

    n: int
    "posts at which raw alignments and floors are taken"
    people: Mapping[str, int]
    "posts with a label by group"
    baseline: Alignment
    "between the groups"
    raw_baseline: Drawn
    floors: Mapping[str, Drawn]
    "raw alignment of halves of one group, by group"
    models: Mapping[Who, OfModel]


def of_topics(samples: Samples, least: int, seed: int, draws: int = DRAWS) -> dict[Topic, OfTopic]:
    """Figures of each topic on which both groups have at least ``least`` labelled posts, with the models that do too."""
    found = {}
    for topic in sorted({topic for of_who in samples.values() for topic in of_who}):
        enough = {who: of_who[topic] for who, of_who in samples.items() if topic in of_who and of_who[topic].n >= least}
        groups = {group: enough.pop((group, "")) for group in GROUPS if (group, "") in enough}
        if len(groups) == len(GROUPS):
            found[topic] = of_topic(groups, enough, seed, draws)
    return found


def of_topic(groups: Mapping[str, Sample], models: Mapping[Who, Sample], seed: int, draws: int = DRAWS) -> OfTopic:
    """Figures of one topic."""
    liberal, conservative = groups[LIBERAL], groups[CONSERVATIVE]
    n = min([sample.n // 2 for sample in groups.values()] + [sample.n for sample in models.values()])
    both = together(liberal, conservative)

    def of_model(who: Who, sample: Sample) -> OfModel:
        unsteered = models.get((who[0], UNSTEERED))
        steered = who[1] in groups and unsteered is not None
        return OfModel(
            n=sample.n,
            alignments={group: alignment(sample, of_group, seed, draws) for group, of_group in groups.items()},
            raw={group: raw_at(sample, of_group, n, seed)[0] for group, of_group in groups.items()},
            tendency=tendency(sample, liberal, conservative, seed, draws),
            entropy_gap=entropy_gap(sample, both, seed, draws),
            gain=tendency(groups[who[1]], sample, unsteered, seed, draws) if steered and unsteered else None,
        )

    return OfTopic(
        n=n,
        people={group: sample.n for group, sample in groups.items()},
        baseline=alignment(liberal, conservative, seed, draws),
        raw_baseline=raw_at(liberal, conservative, n, seed)[0],
        floors={group: floor(sample, n, seed)[0] for group, sample in groups.items()},
        models={who: of_model(who, sample) for who, sample in models.items()},
    )


def mean(figures: Iterable[Alignment | Drawn], seed: int) -> Estimate | None:
    """The average over topics; nothing without any."""
    known = list(figures)
    return average([figure.estimate.value for figure in known], [figure.draws for figure in known], seed) if known else None


def of_model(topics: Mapping[Topic, OfTopic], who: Who, seed: int) -> Figures:
    """A model's averages over the topics where it has enough posts; how many those are."""
    told = [topic.models[who] for topic in topics.values() if who in topic.models]
    figures: dict[str, Figures | float] = {"topics": len(told)}
    for group in GROUPS:
        if found := mean((topic.alignments[group] for topic in told), seed):
            raw = mean((topic.raw[group] for topic in told), seed)
            figures[group] = found.figures() | ({"raw": raw.value} if raw else {})
    others: Sequence[tuple[str, Callable[[OfModel], Drawn | None]]] = (
        ("tendency", lambda topic: topic.tendency),
        ("entropy_gap", lambda topic: topic.entropy_gap),
        ("gain", lambda topic: topic.gain),
    )
    for name, figure in others:
        if estimate := mean((value for topic in told if (value := figure(topic)) is not None), seed):
            figures[name] = estimate.figures()
    return figures


def of_people(topics: Mapping[Topic, OfTopic], seed: int) -> tuple[Figures, Figures]:
    """The baseline between the groups, and the floor of each, averaged over topics."""
    baseline: dict[str, Figures | float] = {"topics": len(topics)}
    floors: dict[str, Figures | float] = {"topics": len(topics)}
    if found := mean((topic.baseline for topic in topics.values()), seed):
        raw = mean((topic.raw_baseline for topic in topics.values()), seed)
        baseline |= found.figures() | ({"raw": raw.value} if raw else {})
        floors["n"] = sum(topic.n for topic in topics.values()) / len(topics)
    for group in GROUPS:
        if lowest := mean((topic.floors[group] for topic in topics.values()), seed):
            floors[group] = lowest.figures()
    return baseline, floors
