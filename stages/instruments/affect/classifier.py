"""What every affect classifier gives, and how its scores become a distribution.

A classifier gives each text a score from 0 to 1 for each of k labels, independently: a text can have several labels or none. A score at or above the
threshold means that the text has the label. A text's weight on a label is then

    labels   1 for each label it has (the default: a group's distribution is that of all labels found in its posts)
    posts    1 divided by how many labels it has, so that each post counts alike
    scores   the score of each label it has, so that sure labels count more

and 0 on the others. A group's distribution is the sum of its posts' weights, scaled to sum to 1; posts without any label are in none.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

Measure = Literal["emotion", "moral"]
Weighing = Literal["labels", "posts", "scores"]
Floats = NDArray[np.float64]

EMOTIONS = ("anger", "anticipation", "disgust", "fear", "joy", "love", "optimism", "pessimism", "sadness", "surprise", "trust")
"Of SemEval-2018 task 1 (Mohammad et al. 2018)."
PLUTCHIK = ("anger", "anticipation", "disgust", "fear", "joy", "sadness", "surprise", "trust")
"Plutchik's eight, which word-emotion lexicons have."
MORALS = ("care", "harm", "fairness", "cheating", "loyalty", "betrayal", "authority", "subversion", "purity", "degradation")
"Virtue and vice of each of five foundations (Haidt and Graham 2007)."
LABELS: dict[Measure, tuple[str, ...]] = {"emotion": EMOTIONS, "moral": MORALS}


class Classifier(Protocol):
    """Tells the labels of texts."""

    @property
    def labels(self) -> tuple[str, ...]:
        """[k], in the order of the scores."""
        ...

    def scores(self, texts: Sequence[str]) -> Floats:
        """[n, k], 0 to 1."""
        ...


def weights(scores: Floats, threshold: float, weighing: Weighing) -> Floats:
    """Weights [n, k] of ``scores`` [n, k]; see above."""
    has = scores >= threshold
    match weighing:
        case "labels":
            return has.astype(np.float64)
        case "posts":
            return np.asarray(has / np.maximum(has.sum(axis=1, keepdims=True), 1))
        case "scores":
            return np.where(has, scores, 0.0)
        case _:
            assert_never(weighing)
