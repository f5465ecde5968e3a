"""How well a classifier's labels agree with gold labels, beside what chance scores."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core import sheets
from stages.core.errors import InputError
from stages.core.results import Figures
from stages.instruments.affect.classifier import LABELS, Measure
from stages.statistics.bootstrap import DRAWS, interval
from stages.statistics.multilabel import Labels, macro_f1

COLUMNS: dict[Measure, str] = {"emotion": "emotions", "moral": "morals"}


def read_gold(path: Path) -> dict[str, dict[Measure, frozenset[str]]]:
    """Gold labels by native id, from a CSV file with ``native_id``, ``emotions`` and ``morals`` (a blank between two labels).

    :raises InputError: if the file or a column is missing, or a label is none that there is.
    """
    columns = ("native_id", *COLUMNS.values())
    rows = sheets.read(path, columns, text=columns)
    gold: dict[str, dict[Measure, frozenset[str]]] = {}
    for number, row in enumerate(rows[list(columns)].itertuples(index=False), 2):
        found: dict[Measure, frozenset[str]] = {}
        for measure, column in COLUMNS.items():
            labels = frozenset(str(getattr(row, column)).split())
            if unknown := sorted(labels - set(LABELS[measure])):
                raise InputError(f"{path}: row {number}: field {column}: '{unknown[0]}' is none of {', '.join(LABELS[measure])}. Correct it.")
            found[measure] = labels
        gold[str(row.native_id)] = found
    return gold


def quality(gold: Labels, found: Labels, names: Sequence[str], seed: int) -> Figures:
    """Macro F1 with its interval over posts, its floor (labels dealt out at random), and each label's figures; ``names`` [k]."""
    random = np.random.default_rng(seed)
    weights = random.multinomial(len(gold), np.full(len(gold), 1 / len(gold)), size=DRAWS).astype(np.float64)
    dealt = [float(macro_f1(gold, found[random.permutation(len(found))])[0]) for _ in range(200)]
    measured: dict[str, Figures | float] = {
        "n": len(gold),
        "labelled": float(found.any(axis=1).mean()),
        "macro_f1": interval(float(macro_f1(gold, found)[0]), macro_f1(gold, found, weights)).figures(),
        "floor": float(np.mean(dealt)),
    }
    for k, name in enumerate(names):
        both, in_gold, told = int((gold & found)[:, k].sum()), int(gold[:, k].sum()), int(found[:, k].sum())
        measured[name] = {"gold": in_gold, "told": told, "f1": 2 * both / max(1, in_gold + told)}
    return measured


def against_gold(gold: Mapping[str, Collection[str]], told: Mapping[str, NDArray[np.bool_]], names: Sequence[str], seed: int) -> Figures:
    """The same for labels by post id; posts in one only are left out, and gold labels that the classifier does not know."""
    both = [name for name in gold if name in told]
    if not both:
        return {"n": 0}
    return quality(np.array([[label in gold[post] for label in names] for post in both]), np.array([told[post] for post in both]), names, seed)
