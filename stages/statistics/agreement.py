"""How well an annotator agrees with gold labels."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score, roc_auc_score

from stages.core.results import Figures


def agreement(gold: Sequence[int], found: Sequence[int], expected: Sequence[float], labels: int, threshold: int) -> dict[str, Figures | float]:
    """Figures of agreement on labels 0..``labels`` - 1.

    ``expected`` are the annotator's expected scores, for measures that do not depend on where it draws its lines; ``threshold`` is the score from
    which a row counts as positive. Measures that are undefined (one class only) are left out.
    """
    gold_array, found_array, expected_array = np.asarray(gold), np.asarray(found), np.asarray(expected, dtype=float)
    positive = gold_array >= threshold
    table = confusion_matrix(gold_array, found_array, labels=range(labels))
    figures: dict[str, Figures | float] = {
        "n": len(gold_array),
        "macro_f1": float(f1_score(gold_array, found_array, labels=range(labels), average="macro", zero_division=0)),
        "confusion": {f"gold_{i}": {f"score_{j}": int(table[i, j]) for j in range(labels)} for i in range(labels)},
    }
    if len(set(gold_array)) > 1:
        figures["weighted_kappa"] = float(cohen_kappa_score(gold_array, found_array, labels=range(labels), weights="quadratic"))
        if len(set(expected_array)) > 1:
            figures["spearman"] = float(spearmanr(gold_array, expected_array).statistic)
    if 0 < positive.sum() < len(positive):
        figures["auc"] = float(roc_auc_score(positive, expected_array))
    return figures
