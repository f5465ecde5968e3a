"""The story of a run as one page, and the table that `dvc plots` draws besides those of the measuring stages.

in   metrics/*.json but its own, metrics/plots/*.csv (whichever there are)
out  metrics/report/index.html: self-contained, no network, no scripts
     metrics/headline.json: the few figures that `dvc exp show` and `dvc metrics diff` list
     metrics/plots/confusion.csv: panel (a leaning), gold, score, posts, value (share of the posts of that gold score)

A new metric file appears in the page by itself: curves over steps are drawn, everything is listed. Only what dvc.yaml names as a dependency brings a new report.
"""

from collections.abc import Iterator
from pathlib import Path

from stages.core import command, results
from stages.core.files import replacing
from stages.reporting import found as finding
from stages.reporting import sections
from stages.reporting.found import Found, confusion
from stages.reporting.headline import headline
from stages.reporting.page import page


def render(found: Found) -> str:
    """The page."""
    return page("Plumbline: what this run found", sections.headline(found), [section for make in sections.SECTIONS for section in make(found)])


def cells(found: Found) -> Iterator[tuple[str, str, str, int, float]]:
    """How often the filter gave each score to posts of each gold score."""
    for leaning, rows in confusion(found.metrics):
        for gold, row in rows:
            total = sum(count for _, count in row)
            yield from ((leaning, gold, score, n, n / max(1, total)) for score, n in row)


def main(metrics: Path, plot: Path, target: Path, shortest: Path) -> None:
    """Write page, table and headline."""
    found = finding.read(metrics)
    with replacing(target) as folder:
        folder.mkdir()
        (folder / "index.html").write_text(render(found), encoding="utf-8")
    results.write_metrics(shortest, headline(found.metrics))
    results.write_plot(plot, ("panel", "gold", "score", "posts", "value"), list(cells(found)))


if __name__ == "__main__":
    command.run(main)
