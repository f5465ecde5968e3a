"""Which models there are to measure: the base and every checkpoint of the listed adapters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.errors import InputError
from stages.results import Figures

BASE = "base"
PREFERENCE = "preference"


@dataclass(frozen=True)
class Checkpoint:
    """One model to measure."""

    adapter: str
    "``<leaning>-<dataset>``, or ``base``"
    step: int
    "of training; 0 for the base"
    file: Path | None
    "the adapter for llama.cpp; none for the base"


def adapter_names(leanings: Sequence[str], datasets: Sequence[str]) -> list[str]:
    """Every adapter that ``sft`` and ``dpo`` make with these settings."""
    return [f"{leaning}-{dataset}" for leaning in leanings for dataset in (*datasets, PREFERENCE)]


def checkpoints(folder: Path, names: Sequence[str]) -> list[Checkpoint]:
    """The base, then each adapter's checkpoints by step; adapters that lie in ``folder`` without being listed are left alone.

    :raises InputError: if a listed adapter has no checkpoint.
    """
    found = [Checkpoint(BASE, 0, None)]
    for name in names:
        files = sorted((folder / name).glob("step-*/adapter.gguf"))
        if not files:
            raise InputError(f"{folder / name}: holds no step-*/adapter.gguf. Run `dvc repro` for {name}.")
        found += [Checkpoint(name, int(file.parent.name.removeprefix("step-")), file) for file in files]
    return found


def final(points: Iterable[Checkpoint]) -> list[Checkpoint]:
    """The base and the last checkpoint of each adapter."""
    return list({point.adapter: point for point in points}.values())


def curve(points: Iterable[Checkpoint]) -> list[tuple[str, int, Checkpoint]]:
    """(adapter, step, checkpoint) for every point of the adapters' curves, which all begin with the base at step 0."""
    base, *others = points
    return [(name, 0, base) for name in dict.fromkeys(point.adapter for point in others)] + [(point.adapter, point.step, point) for point in others]


def cells(found: Figures, name: str) -> list[object]:
    """Value, low and high of a measure for a row of a curve; blank if it was not measured."""
    measure = found.get(name)
    return [measure[end] if isinstance(measure, Mapping) else "" for end in ("value", "low", "high")]
