"""Labelled posts of people and models, put together by topic for comparison."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.instruments.affect.classifier import Floats
from stages.statistics.divergence import Sample

GROUPS = ("liberal", "conservative")
Topic = tuple[str, str]
"(issue, topic)"
Who = tuple[str, str]
"(model, steering), or (group, '') of people"


@dataclass(frozen=True)
class Post:
    """One labelled post."""

    who: Who
    topics: tuple[Topic, ...]
    "a post can be on several and then counts for each"
    cluster: str
    "posts of one cluster are alike: those of one author, or those that a model wrote to one wording"
    weights: Floats
    "[k], of the labels"


def people(rows: Iterable[Mapping[str, object]], weights: Mapping[str, Floats]) -> list[Post]:
    """The kept posts of liberals and conservatives on a topic, from rows of data/discourse/posts; ``weights`` by id."""
    return [
        Post((str(row["group"]), ""), tuple((str(row["issue"]), str(topic)) for topic in _listed(row["topics"])), str(row["author"] or row["id"]), weights[str(row["id"])])
        for row in rows
        if row["status"] == "kept" and row["group"] in GROUPS and row["topics"]
    ]


def models(rows: Iterable[Mapping[str, object]], weights: Mapping[str, Floats]) -> list[Post]:
    """The kept posts of models, from rows of data/speech."""
    return [
        Post((str(row["model"]), str(row["steering"])), ((str(row["issue"]), str(row["topic"])),), str(row["wording"]), weights[str(row["id"])])
        for row in rows
        if row["status"] == "kept"
    ]


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def by_topic(posts: Iterable[Post]) -> dict[Who, dict[Topic, Sample]]:
    """A sample for everybody on each topic where there is a labelled post."""
    gathered: dict[Who, dict[Topic, list[Post]]] = {}
    for post in posts:
        for topic in post.topics:
            gathered.setdefault(post.who, {}).setdefault(topic, []).append(post)
    return {who: {topic: found for topic, members in of_who.items() if (found := sample(members))} for who, of_who in gathered.items()}


def by_issue(posts: Iterable[Post]) -> dict[Who, dict[str, Sample]]:
    """A sample for everybody on each issue; a post on several topics counts once."""
    gathered: dict[Who, dict[str, list[Post]]] = {}
    for post in posts:
        gathered.setdefault(post.who, {}).setdefault(post.topics[0][0], []).append(post)
    return {who: {issue: found for issue, members in of_who.items() if (found := sample(members))} for who, of_who in gathered.items()}


def sample(posts: Sequence[Post]) -> Sample | None:
    """The posts with a label; nothing if there is none."""
    weights = np.array([post.weights for post in posts])
    return Sample.of(weights, [post.cluster for post in posts]) if weights.any() else None


def together(first: Sample, second: Sample) -> Sample:
    """Both samples as one; a cluster of the one is none of the other."""
    return Sample(np.concatenate([first.weights, second.weights]), np.concatenate([first.clusters, second.clusters + first.clusters.max() + 1]))
