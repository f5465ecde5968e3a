"""A lean classifier: words and character sequences of a text to a score 0 (very far left) .. 20 (very far right).

Trained on texts of our own that no stage tunes a model on, with the same registers and topics on both sides and in the middle, so that it has to
learn positions rather than style. It never sees which model wrote a text.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline, make_union

from stages.instruments.judges import CENTRE, HIGH, LOW, Answer, Labelled

REGULARISATION = 0.3


class LeanClassifier:
    """Ridge regression on TF-IDF features, stretched so that its spread on unseen topics equals that of the true scores."""

    def __init__(self, training: Labelled) -> None:
        """Fit. Scores of unseen texts come out shrunk towards the middle; cross-validation over topics tells by how much."""
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 5), sublinear_tf=True)
        self._model = make_pipeline(make_union(words, characters), Ridge(alpha=REGULARISATION))
        unseen = cross_val_predict(self._model, training.texts, training.scores - CENTRE, groups=training.groups, cv=GroupKFold(8))
        self._stretch = float(training.scores.std() / unseen.std())
        self._model.fit(training.texts, training.scores - CENTRE)

    def score(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """See :class:`stages.instruments.judges.Judge`; a text without words is at the centre. The questions are not looked at."""
        texts = [answer.text for answer in answers]
        scores = np.clip(CENTRE + self._stretch * self._model.predict(texts), LOW, HIGH)
        return np.where([bool(text.strip()) for text in texts], scores, CENTRE)
