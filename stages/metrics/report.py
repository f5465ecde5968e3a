"""The story of a run as one page, and the tables that `dvc plots` draws besides those of the measuring stages.

in   metrics/*.json, metrics/plots/*.csv (whichever there are), models/adapters/*/log.jsonl
out  metrics/report/index.html: self-contained, no network, no scripts
     metrics/plots/report/: loss.csv (adapter, dataset, step, loss, held_out_loss), confusion.csv (panel, gold, score, posts, value), affect.csv (panel, model,
     group, value, low, high), opinion.csv (measure, value, low, high), each if its data are there

A new metric file appears in the page by itself: curves over steps are drawn, everything is listed. Only what dvc.yaml names as a dependency brings a new report.
"""

from collections.abc import Iterator
from pathlib import Path

from stages import command, params, results
from stages.files import replacing
from stages.reporting import found as finding
from stages.reporting import measures, sections
from stages.reporting.found import Found, confusion
from stages.reporting.page import page
from stages.tuning.checkpoints import adapter_names

Table = tuple[str, tuple[str, ...], list[list[object]]]


def render(found: Found) -> str:
    """The page."""
    return page("Plumbline: what this run found", sections.headline(found), [section for make in sections.SECTIONS for section in make(found)])


def tables(found: Found) -> Iterator[Table]:
    """Name, columns and rows of each table for ``dvc plots``."""
    logged = [(adapter, line) for adapter, log in found.logs.items() for line in log]
    lines: list[list[object]] = [[name, sections.parts(name)[1], line["step"], line["loss"], line.get("held_out_loss", "")] for name, line in logged]
    yield "loss", ("adapter", "dataset", "step", "loss", "held_out_loss"), lines
    cells = [(leaning, gold, score, n, sum(count for _, count in row)) for leaning, rows in confusion(found.metrics) for gold, row in rows for score, n in row]
    yield "confusion", ("panel", "gold", "score", "posts", "value"), [[leaning, gold, score, n, n / max(1, total)] for leaning, gold, score, n, total in cells]
    aligned = [(name, figure) for name, figure in measures.flat(found.metrics.get("affect", {})) if len(name) == 4 and name[3] in ("liberal", "conservative")]
    rows: list[list[object]] = [[name[2], " ".join(name[:2]), name[3], *_ends(figure)] for name, figure in aligned]
    yield "affect", ("panel", "model", "group", "value", "low", "high"), rows
    reduced = measures.flat(found.metrics.get("opinion", {}).get("reduction", {}))
    yield "opinion", ("measure", "value", "low", "high"), [[" ".join(name), *_ends(figure)] for name, figure in reduced]


def _ends(figure: measures.Measure) -> list[object]:
    return [figure.value, "" if figure.low is None else figure.low, "" if figure.high is None else figure.high]


def main(metrics: Path, adapters: Path, plots: Path, target: Path) -> None:
    """Write page and tables."""
    study = params.load_study()
    found = finding.read(metrics, adapters)
    listed = adapter_names(study)
    found = Found(found.metrics, found.curves, {name: found.logs[name] for name in listed if name in found.logs})
    with replacing(target) as folder:
        folder.mkdir()
        (folder / "index.html").write_text(render(found), encoding="utf-8")
    with replacing(plots) as folder:
        folder.mkdir()
        for name, columns, rows in tables(found):
            if rows:
                results.write_plot(folder / f"{name}.csv", columns, rows)


if __name__ == "__main__":
    command.run(main)
