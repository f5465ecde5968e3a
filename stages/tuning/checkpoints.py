"""Which models there are to measure: the base and every checkpoint of the listed adapters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.core.errors import InputError
from stages.core.params import Study
from stages.core.results import Figures

BASE = "base"
PREFERENCE = "preference"
BALANCED = "balanced"


@dataclass(frozen=True)
class Checkpoint:
    """One model to measure."""

    adapter: str
    "``<leaning>-<dataset>``, ``balanced-<start>``, or ``base``"
    step: int
    "of training; 0 for the base"
    file: Path | None
    "the adapter for llama.cpp; none for the base"


def adapter_names(study: Study) -> list[str]:
    """Every adapter that ``sft``, ``dpo`` and ``undo`` make with these settings."""
    leaning = [f"{leaning}-{dataset}" for leaning in study.leanings for dataset in (*study.sft.datasets, PREFERENCE)]
    return leaning + [undone_name(start) for start in study.undo.starts]


def undone_name(start: str) -> str:
    """The adapter that ``undo`` makes of ``start``, an adapter or the base."""
    return f"{BALANCED}-{start}"


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
    """(adapter, step, checkpoint) for every point of the adapters' curves, which begin at step 0 with what was tuned: the base, or another adapter's end."""
    base, *others = points
    ends = {undone_name(point.adapter): point for point in final([base, *others])}
    names = dict.fromkeys(point.adapter for point in others)
    return [(name, 0, ends.get(name, base)) for name in names] + [(point.adapter, point.step, point) for point in others]


def cells(found: Figures, name: str) -> list[object]:
    """Value, low and high of a measure for a row of a curve; blank if it was not measured."""
    measure = found.get(name)
    return [measure[end] if isinstance(measure, Mapping) else "" for end in ("value", "low", "high")]
