"""A lean classifier: words and character sequences of a text to a score 0 (very far left) .. 20 (very far right).

Trained on texts of our own that no stage tunes a model on, with the same registers and topics on both sides and in the middle, so that it has to
learn positions rather than style. It never sees which model wrote a text.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.metrics import cohen_kappa_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline, make_union

from stages.errors import InputError
from stages.results import Figures

LOW, CENTRE, HIGH = 0.0, 10.0, 20.0
REGULARISATION = 0.3


@dataclass(frozen=True)
class Labelled:
    """Texts with scores."""

    texts: list[str]
    scores: NDArray[np.float64]
    "[n], 0..20"
    groups: list[str]
    "[n], the topic of each"
    cues: NDArray[np.bool_]
    "[n], whether a text names a party, a politician or a side"


def read(path: Path) -> Labelled:
    """Read a JSON Lines file of ``text``, ``score``, ``topic`` and, where it has them, ``cue``.

    :raises InputError: naming the row and field that cannot be used.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append((str(row["text"]), float(row["score"]), str(row["topic"]), bool(row.get("cue", False))))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: row {number}: needs text, score (0 to 20) and topic: {error!r}. Correct the row.") from error
        if not LOW <= rows[-1][1] <= HIGH:
            raise InputError(f"{path}: row {number}: field score: {rows[-1][1]} is not within 0 to 20. Correct the row.")
    return Labelled([row[0] for row in rows], np.array([row[1] for row in rows]), [row[2] for row in rows], np.array([row[3] for row in rows]))


class LeanClassifier:
    """Ridge regression on TF-IDF features, stretched so that its spread on unseen topics equals that of the true scores."""

    def __init__(self, training: Labelled) -> None:
        """Fit. Scores of unseen texts come out shrunk towards the middle; cross-validation over topics tells by how much."""
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
        self._model = make_pipeline(make_union(words, characters), Ridge(alpha=REGULARISATION))
        unseen = cross_val_predict(self._model, training.texts, training.scores - CENTRE, groups=training.groups, cv=GroupKFold(8))
        self._stretch = float(training.scores.std() / unseen.std())
        self._model.fit(training.texts, training.scores - CENTRE)

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Scores 0..20, [n]; a text without words is at the centre."""
        scores = np.clip(CENTRE + self._stretch * self._model.predict(list(texts)), LOW, HIGH)
        return np.where([bool(text.strip()) for text in texts], scores, CENTRE)


def quality(found: NDArray[np.float64], gold: Labelled) -> dict[str, Figures | float]:
    """How well scores [n] agree with gold: all texts, and apart those that name no party, politician or side."""

    def measures(rows: NDArray[np.bool_]) -> dict[str, Figures | float]:
        truth, guess = gold.scores[rows], found[rows]
        return {
            "n": int(rows.sum()),
            "spearman": float(spearmanr(truth, guess).statistic),
            "weighted_kappa": float(cohen_kappa_score(truth.round().astype(int), guess.round().astype(int), labels=range(21), weights="quadratic")),
            "mean_error": float(np.abs(guess - truth).mean()),
            "offset": float((guess - truth).mean()),
        }

    return measures(np.ones(len(found), dtype=bool)) | {"without_cue": measures(~gold.cues), "with_cue": measures(gold.cues)}
