"""The few figures of a run that ``dvc exp show`` and ``dvc metrics diff`` list, under names that stand alone as columns."""

from collections.abc import Mapping
from typing import Any

from stages.core.results import Figures
from stages.reporting import measures

FILE = "headline.json"
"Under metrics/; drawn from all other files there, so neither the report nor a pull request repeats it."


def headline(metrics: Mapping[str, Mapping[str, Any]]) -> Figures:
    """From parsed metric files by their names without .json, as far as they are there, without intervals.

    right_minus_left.<dataset>.<judge|economic|social> (of ``summary``), undo.<adapter> (how much nearer to the centre it is on the judge's scale), filter_kappa.<leaning>,
    judge_spearman.<judge>, tendency.<emotion|moral> (of ``affect``: how much nearer the base's posts are to liberals than to conservatives), reduction.<measure> (of ``opinion``).
    """
    found: dict[str, Any] = {}
    for file, figures in metrics.items():
        for name, figure in measures.flat(figures):
            place: tuple[str, ...]
            match file, *name:
                case "summary", "separation", dataset, measure:
                    place = "right_minus_left", dataset, measure.removeprefix("compass_")
                case "summary", "undo", adapter, "judge":
                    place = "undo", adapter
                case ("summary", ("filter_kappa" | "judge_spearman") as kind, which) | ("opinion", "reduction" as kind, which):
                    place = kind, which
                case "affect", "base", "none", kind, "tendency":
                    place = "tendency", kind
                case _:
                    continue
            inner = found
            for key in place[:-1]:
                inner = inner.setdefault(key, {})
            inner[place[-1]] = figure.value
    return found
