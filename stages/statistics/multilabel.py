"""Agreement on labels of which a post can have several."""

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.bool_]
"[posts, labels]: which post has which label"


def macro_f1(gold: Labels, found: Labels, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Mean over labels of F1 = 2 both / (gold + found), for each row of post ``weights`` [draws, posts]; a label that neither has scores 0."""
    times = np.ones((1, len(gold))) if weights is None else weights
    both, either = times @ (gold & found), times @ (gold.astype(float) + found)
    return np.asarray((2 * both / np.maximum(either, 1)).mean(axis=1))
