"""Whether simulated answers depend on who somebody is in the same direction as real ones do."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SIGNIFICANT = 1.96
"Standard errors from 0 at which the sign of a coefficient is taken as known."
NOTHING = 1e-9
"Coefficients of scores 0 .. 1 below this are rounding errors."


@dataclass(frozen=True)
class Fit:
    """A weighted linear regression."""

    coefficients: Array
    "[c], without the intercept"
    errors: Array
    "[c], standard errors robust to unequal variance and to weights"


def indicators(columns: Mapping[str, Sequence[str | None]]) -> tuple[list[str], Array]:
    """Labels as indicators [n, c] named ``<column>=<label>``, against each column's most frequent label; no label is a label too."""
    names, found = [], []
    for column, labels in columns.items():
        filled = [label or "" for label in labels]
        counts = Counter(filled)
        reference = max(sorted(counts), key=lambda label: counts[label])
        for label in sorted(set(counts) - {reference}):
            names.append(f"{column}={label}")
            found.append([value == label for value in filled])
    n = len(next(iter(columns.values()), ()))
    return names, np.array(found, dtype=np.float64).T if found else np.zeros((n, 0))


def regress(scores: Array, known: Array, weights: Array) -> Fit:
    """Weighted least squares of ``scores`` [n], about 0 .. 1, on ``known`` [n, c] and an intercept.

    Standard errors are White's (1980, Econometrica 48:817), with Σ w² e² x xᵀ between the inverses of Σ w x xᵀ.
    """
    design = np.column_stack([np.ones(len(scores)), known])
    inverse = np.linalg.pinv(design.T @ (design * weights[:, None]))
    coefficients = inverse @ (design.T @ (weights * scores))
    coefficients[np.abs(coefficients) < NOTHING] = 0
    pulls = design * (weights * (scores - design @ coefficients))[:, None]
    errors = np.sqrt(np.clip(np.diag(inverse @ (pulls.T @ pulls) @ inverse), 0, None))
    return Fit(coefficients[1:], errors[1:])


@dataclass(frozen=True)
class Agreement:
    """How many coefficients point the same way."""

    share: float
    "0 .. 1; .5 is chance"
    n: int
    "coefficients whose sign is known from the real answers"


def sign_agreement(real: Array, simulated: Array, known: Array, weights: Array) -> Agreement | None:
    """Share of the coefficients of ``real`` scores [n] that differ from 0 and have the same sign among ``simulated`` scores [n]; none if none differs."""
    fit, other = regress(real, known, weights), regress(simulated, known, weights)
    clear = np.abs(fit.coefficients) > SIGNIFICANT * fit.errors
    if not clear.any():
        return None
    same = np.sign(fit.coefficients[clear]) == np.sign(other.coefficients[clear])
    return Agreement(float(same.mean()), int(clear.sum()))
