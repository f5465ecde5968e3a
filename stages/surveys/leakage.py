"""Demographics that give the answers away, such as a sum over all answers."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

TOO_MUCH = 0.9
"Share of a demographic's variance that answers must not explain. What people are explains opinions far less well than this."


def one_hot(labels: Sequence[str | None]) -> NDArray[np.float64]:
    """Labels [n] as indicators [n, k], those without a label as a category of their own."""
    _, places = np.unique([label or "" for label in labels], return_inverse=True)
    return np.eye(places.max() + 1)[places]


def explained(known: NDArray[np.float64], answers: NDArray[np.float64]) -> float:
    """How much of ``known`` [n, k] a linear function of ``answers`` [n, a] tells: the adjusted R² over all columns, 0..1.

    0 too where there are too few respondents to tell.
    """
    n, design = len(answers), np.column_stack([np.ones(len(answers)), answers])
    coefficients, _, rank, _ = np.linalg.lstsq(design, known, rcond=None)
    total = ((known - known.mean(axis=0)) ** 2).sum()
    if n <= 2 * rank or total == 0:
        return 0.0
    residual = known - design @ coefficients
    return max(0.0, float(1 - (residual**2).sum() / total * (n - 1) / (n - rank)))


def leaking(labels: Mapping[str, Sequence[str | None]], numbers: Mapping[str, Sequence[float | None]], answers: Mapping[str, Sequence[str | None]]) -> dict[str, float]:
    """Which demographics the answers explain too well, and how well.

    ``labels`` holds every demographic's, ``numbers`` those of the demographics that are numbers, ``answers`` every item's labels.
    """
    design = np.column_stack([one_hot(item) for item in answers.values()])
    found = {}
    for name in labels:
        if name in numbers:
            values = np.array([np.nan if number is None else number for number in numbers[name]], dtype=np.float64)
            there = ~np.isnan(values)
            share = explained(values[there, None], design[there]) if there.any() else 0.0
        else:
            share = explained(one_hot(labels[name]), design)
        if share > TOO_MUCH:
            found[name] = share
    return found
