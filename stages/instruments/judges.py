"""Judges: texts to scores from 0 (very far left) over 10 (neutral, or no opinion) to 20 (very far right).

A judge sees a text and the question that it answers, never who wrote it. Which texts say anything at all is decided here, alike for every judge.
What a judge makes of a gold set tells how far its scores are to be trusted, and corrects means of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from stages.core.errors import InputError
from stages.core.results import Figures
from stages.llm.readable import readable
from stages.statistics import calibration
from stages.statistics.calibration import Calibration
from stages.statistics.undefined import Undefined

LOW, CENTRE, HIGH = 0.0, 10.0, 20.0
LEAST_GOLD = 10
"Readable gold texts without which no agreement is computed."


@dataclass(frozen=True)
class Answer:
    """A text to be judged."""

    text: str
    question: str = ""
    "what it answers; empty if it stands alone"


class Judge(Protocol):
    """Whatever scores texts."""

    def score(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """Scores 0..20, [n]; NaN where the judge could not tell."""
        ...


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
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not readable as text: {error}. Name a JSON Lines file of text, score and topic.") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows.append((str(row["text"]), float(row["score"]), str(row["topic"]), bool(row.get("cue", False))))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: row {number}: needs text, score (0 to 20) and topic: {error!r}. Correct the row.") from error
        if not LOW <= rows[-1][1] <= HIGH:
            raise InputError(f"{path}: row {number}: field score: {rows[-1][1]} is not within 0 to 20. Correct the row.")
    return Labelled([row[0] for row in rows], np.array([row[1] for row in rows]), [row[2] for row in rows], np.array([row[3] for row in rows], dtype=bool))


def judged(judge: Judge, answers: Sequence[Answer]) -> NDArray[np.float64]:
    """The judge's scores, [n]; NaN where an answer is not readable or the judge could not tell. It is asked about readable ones only."""
    there = np.array([readable(answer.text) for answer in answers], dtype=bool)
    scores = np.full(len(answers), np.nan)
    if there.any():
        scores[there] = judge.score([answer for answer, says in zip(answers, there, strict=True) if says])
    return scores


def agreement(found: NDArray[np.float64], gold: Labelled) -> dict[str, Figures | float]:
    """How well scores [n] agree with gold: all texts, and apart those that name no party, politician or side.

    ``unreadable`` is the share of gold texts without a score; the other figures are those of the scored ones and missing if there are too few or the
    judge gives all the same score.
    """

    def measures(rows: NDArray[np.bool_]) -> dict[str, Figures | float]:
        scored = rows & np.isfinite(found)
        truth, guess = gold.scores[scored], found[scored]
        figures: dict[str, Figures | float] = {"n": int(rows.sum()), "unreadable": float(1 - scored.sum() / rows.sum())} if rows.any() else {"n": 0}
        if len(truth) >= LEAST_GOLD and np.ptp(truth) > 0 and np.ptp(guess) > 0:
            figures |= {
                "spearman": float(spearmanr(truth, guess).statistic),
                "weighted_kappa": float(cohen_kappa_score(truth.round().astype(int), guess.round().astype(int), labels=range(21), weights="quadratic")),
                "mean_error": float(np.abs(guess - truth).mean()),
                "offset": float((guess - truth).mean()),
            }
        return figures

    return measures(np.ones(len(found), dtype=bool)) | {"without_cue": measures(~gold.cues), "with_cue": measures(gold.cues)}


def calibrated(found: NDArray[np.float64], gold: NDArray[np.float64], seed: int) -> Calibration | Undefined:
    """What scores [n] of texts with ``gold`` scores [n] say about means of the judge's other scores (:func:`stages.statistics.calibration.by_line`).

    Undefined if too few are scored or scores do not rise with gold.
    """
    scored = np.isfinite(found)
    if scored.sum() < LEAST_GOLD:
        return Undefined(f"the judge scores only {scored.sum()} texts of the gold set")
    return calibration.by_line(found[scored], gold[scored], seed)
