"""How training went: the curves of all adapters, and where each ended.

in   models/adapters/<adapter>/log.jsonl of every listed adapter
out  metrics/plots/training.csv: adapter, step, loss, learning_rate, gradient_norm, tokens_seen, accuracy, margin, and what was measured on
     held-out samples at checkpoints: held_out_loss, held_out_accuracy, held_out_margin; blank where there is nothing
     metrics/training.json: <adapter> -> steps, tokens_seen, loss, and on held-out samples: held_out_loss, held_out_margin, and
     held_out_accuracy, the share of pairs whose chosen answer gained more, as value, low, high (95 %, Wilson 1927), n
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from scipy.stats import binomtest

from stages.core import command, params, results
from stages.core.errors import InputError
from stages.core.results import Figures
from stages.tuning.checkpoints import adapter_names

COLUMNS = ("loss", "learning_rate", "gradient_norm", "tokens_seen", "accuracy", "margin", "held_out_loss", "held_out_accuracy", "held_out_margin")

Line: TypeAlias = Mapping[str, float]


def read_log(file: Path) -> list[Line]:
    """The lines of a training log, one a step.

    :raises InputError: if it is missing, empty or damaged.
    """
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: is no readable training log ({error}). Run `dvc repro -f` for {file.parent.name}.") from error
    if not lines:
        raise InputError(f"{file}: holds no step. Run `dvc repro -f` for {file.parent.name}.")
    return lines


def figures(lines: Sequence[Line]) -> dict[str, Figures | float]:
    """Where a run ended."""
    last = lines[-1]
    found: dict[str, Figures | float] = {"steps": int(last["step"]), "tokens_seen": int(last["tokens_seen"])}
    found |= {name: last[name] for name in ("loss", "held_out_loss", "held_out_margin") if name in last}
    if "held_out_accuracy" in last:
        n = int(last["held_out_pairs"])
        interval = binomtest(round(last["held_out_accuracy"] * n), n).proportion_ci(method="wilson")
        found["held_out_accuracy"] = {"value": last["held_out_accuracy"], "low": float(interval.low), "high": float(interval.high), "n": n}
    return found


def main(adapters: Path, target: Path, plot: Path) -> None:
    """Collect the logs of all adapters."""
    study = params.load_study()
    logs = {name: read_log(adapters / name / "log.jsonl") for name in adapter_names(study)}
    rows = [(name, line["step"], *(line.get(column, "") for column in COLUMNS)) for name, lines in logs.items() for line in lines]
    results.write_plot(plot, ("adapter", "step", *COLUMNS), rows)
    results.write_metrics(target, {name: figures(lines) for name, lines in logs.items()})


if __name__ == "__main__":
    command.run(main)
