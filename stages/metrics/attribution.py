"""How well the sides and topics that ``discourse`` and ``topics`` told agree with gold labels.

in   data/discourse/posts.parquet, prompts/topics/, the gold file that params.yaml names
out  metrics/attribution.json:
         posts   how many rows have each status, issue and topic
         sides   authors in each group; against gold: coverage (share of liberal and conservative authors who are told a side), accuracy among those
         issues  against gold: share of posts whose issue is right
         topics  against gold, over posts of gold topics or without: f1, precision, recall of each; macro_f1 with its interval over authors, the same
                 by the phrases alone, and the floor: what topics dealt out at random score

A gold file is CSV with ``native_id``, ``side``, ``issue`` and ``topics`` (a blank between two). Posts that are not kept are left out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core import command, params, results, sheets, tables
from stages.core.errors import InputError
from stages.core.files import short_hash
from stages.core.params import Section
from stages.core.results import Figures
from stages.corpora import issues
from stages.corpora.issues import Issue
from stages.data import topics
from stages.statistics.bootstrap import DRAWS, interval
from stages.statistics.multilabel import Labels, macro_f1

SIDES = ("liberal", "conservative", "mixed")


class Params(Section):
    """``params.yaml: attribution``."""

    gold: Path | None
    "nothing for a corpus without gold: then only counts are written"


@dataclass(frozen=True)
class Gold:
    """What a reader says of a post."""

    side: str
    issue: str
    topics: tuple[str, ...]


def read_gold(path: Path, found: Mapping[str, Issue]) -> dict[str, Gold]:
    """Gold labels by native id.

    :raises InputError: if the file or a column is missing, or a label is none that there is.
    """
    columns = ("native_id", "side", "issue", "topics")
    rows = sheets.read(path, columns, text=columns)
    gold = {}
    for number, (native, side, issue, labels) in enumerate(rows[list(columns)].itertuples(index=False, name=None), 2):
        known = found[issue].topics if issue in found else {}
        unknown = [label for label in labels.split() if label not in known and (issue in found or not issue)]
        if side not in SIDES:
            raise InputError(f"{path}: row {number}: field side: '{side}' is none of {', '.join(SIDES)}. Correct it.")
        if unknown:
            raise InputError(f"{path}: row {number}: field topics: '{unknown[0]}' is no topic of '{issue}' ({', '.join(known) or 'no issue'}). Correct it.")
        gold[native] = Gold(side, issue, tuple(labels.split()))
    return gold


def side_figures(rows: Sequence[Mapping[str, Any]], gold: Mapping[str, Gold]) -> dict[str, Figures | float]:
    """How authors were told apart; ``gold`` by the id of a post."""
    groups = {row["author"]: row["group"] for row in rows if row["author"] is not None}
    figures: dict[str, Figures | float] = {"authors": dict(Counter(groups.values()))}
    truth = {row["author"]: gold[row["id"]].side for row in rows if row["id"] in gold and row["author"] is not None}
    if not truth:
        return figures
    figures["confusion"] = {side: {group: sum(groups[author] == group for author, label in truth.items() if label == side) for group in (*SIDES, "unknown")} for side in SIDES}
    sided = [(label, groups[author]) for author, label in truth.items() if label != "mixed"]
    told = [(label, group) for label, group in sided if group in ("liberal", "conservative")]
    if sided:
        figures["coverage"] = len(told) / len(sided)
    if told:
        figures["accuracy"] = sum(label == group for label, group in told) / len(told)
    return figures


def topic_figures(gold: Labels, found: Labels, by_phrases: Labels, names: Sequence[str], authors: Sequence[str], seed: int = 1) -> dict[str, Figures | float]:
    """Agreement on topics; labels are [posts, topics] with ``names``, intervals resample ``authors`` [posts]."""
    random = np.random.default_rng(seed)
    _, author = np.unique(np.array(authors), return_inverse=True)
    count = int(author.max()) + 1
    weights = random.multinomial(count, np.full(count, 1 / count), size=DRAWS)[:, author].astype(np.float64)
    dealt = np.mean([macro_f1(gold, found[random.permutation(len(found))])[0] for _ in range(200)])
    figures: dict[str, Figures | float] = {"n": len(gold), "floor": float(dealt)}
    for name, labels in (("macro_f1", found), ("macro_f1_phrases_alone", by_phrases)):
        figures[name] = interval(float(macro_f1(gold, labels)[0]), macro_f1(gold, labels, weights)).figures()
    for k, name in enumerate(names):
        both, in_gold, told = int((gold & found)[:, k].sum()), int(gold[:, k].sum()), int(found[:, k].sum())
        figures[name] = {"gold": in_gold, "told": told, "f1": 2 * both / max(1, in_gold + told), "precision": both / max(1, told), "recall": both / max(1, in_gold)}
    return figures


def figures(rows: Sequence[Mapping[str, Any]], gold: Mapping[str, Gold], found: Mapping[str, Issue]) -> dict[str, Figures]:
    """The whole file; ``rows`` of data/discourse/posts, ``gold`` by the id of a post."""
    kept = [row for row in rows if row["status"] == "kept"]
    topic_counts = Counter((row["issue"], topic) for row in kept for topic in row["topics"])
    counts = {
        "status": dict(Counter(row["status"] for row in rows)),
        "issue": dict(Counter(row["issue"] or "none" for row in kept)),
        "topics": {name: {topic: topic_counts[name, topic] for topic in issue.topics} for name, issue in found.items()},
    }
    told: dict[str, Figures] = {"posts": counts, "sides": side_figures(rows, gold)}
    known = [row for row in kept if row["id"] in gold and (gold[row["id"]].issue in found or not gold[row["id"]].issue)]
    if not known:
        return told
    told["issues"] = {"n": len(known), "accuracy": sum((row["issue"] or "") == gold[row["id"]].issue for row in known) / len(known)}
    names = [(name, topic) for name, issue in found.items() for topic in issue.topics]
    alone = topics.assign([row["text"] for row in known], found, widened=False)
    labels = [
        np.array([[name == issue and topic in of_post for name, topic in names] for issue, of_post in assigned])
        for assigned in ([(gold[row["id"]].issue, gold[row["id"]].topics) for row in known], [(row["issue"], row["topics"]) for row in known], alone)
    ]
    told["topics"] = topic_figures(labels[0], labels[1], labels[2], [f"{name}_{topic}" for name, topic in names], [str(row["author"] or row["id"]) for row in known])
    return told


def main(source: Path, folder: Path, target: Path) -> None:
    """Compare sides and topics with gold."""
    settings, found = params.load("attribution", Params), issues.load(folder, params.load("topics", topics.Params).issues)
    rows = tables.read(source, tables.DISCOURSE).to_pylist()
    native = read_gold(settings.gold, found) if settings.gold else {}
    gold = {short_hash(name, key): label for name in {row["source"] for row in rows} for key, label in native.items()}
    results.write_metrics(target, figures(rows, gold, found))


if __name__ == "__main__":
    command.run(main)
