"""How well ``filter`` agrees with gold scores, and what it keeps.

in   data/scored/, the gold files that params.yaml names
out  metrics/filter.json: <leaning> -> n, macro_f1, weighted_kappa, spearman, auc, confusion, kept, precision of what is kept

A gold file is CSV with ``native_id`` and ``score``; a leaning whose posts have no gold gets its counts only.
"""

from pathlib import Path
from typing import Any

from stages.core import command, params, results, sheets, tables
from stages.core.errors import InputError
from stages.core.files import short_hash
from stages.core.params import Section
from stages.core.results import Figures
from stages.data.filter import SCORES
from stages.data.filter import Params as Filter
from stages.statistics.agreement import agreement


class Params(Section):
    """``params.yaml: agreement``."""

    gold: dict[str, Path]


def read_gold(path: Path) -> dict[str, int]:
    """Gold scores by the native id of a post.

    :raises InputError: if the file or a column is missing, or a score is not 0 to 3.
    """
    gold = sheets.read(path, ["native_id", "score"], text=["native_id"])
    wrong = gold[~gold["score"].isin(range(SCORES))]
    if len(wrong):
        raise InputError(f"{path}: row {wrong.index[0] + 2}: field score: {wrong['score'].iloc[0]} is not 0 to {SCORES - 1}. Correct it.")
    return dict(zip(gold["native_id"], gold["score"].astype(int), strict=True))


def figures(scored: list[dict[str, Any]], gold: dict[str, int], threshold: int) -> dict[str, Figures | float]:
    """The measures of one leaning's scored posts against ``gold`` by post id."""
    kept = [row for row in scored if row["kept"]]
    asked = [row for row in scored if row["score"] is not None]
    found: dict[str, Figures | float] = {"posts": len(scored), "scored": len(asked), "kept": len(kept), "kept_share": len(kept) / max(1, len(asked))}
    pairs = [(gold[row["id"]], row) for row in asked if row["id"] in gold]
    if not pairs:
        return found
    expected = [sum(k * row[f"p{k}"] for k in range(SCORES)) for _, row in pairs]
    found |= agreement([truth for truth, _ in pairs], [row["score"] for _, row in pairs], expected, SCORES, threshold)
    found["gold_share"] = sum(truth >= threshold for truth, _ in pairs) / len(pairs)
    judged = [gold[row["id"]] >= threshold for row in kept if row["id"] in gold]
    if judged:
        found["kept_precision"] = sum(judged) / len(judged)
    return found


def main(scored: Path, target: Path) -> None:
    """Compare every leaning's scores with its gold."""
    settings, threshold = params.load("agreement", Params), params.load("filter", Filter).threshold
    measures: dict[str, Figures] = {}
    for leaning in params.load_study().leanings:
        rows = tables.read(scored / f"{leaning}.parquet", tables.SCORED).to_pylist()
        sources = {row["source"] for row in rows}
        gold = read_gold(settings.gold[leaning]) if leaning in settings.gold else {}
        measures[leaning] = figures(rows, {short_hash(source, native): score for source in sources for native, score in gold.items()}, threshold)
    results.write_metrics(target, measures)


if __name__ == "__main__":
    command.run(main)
