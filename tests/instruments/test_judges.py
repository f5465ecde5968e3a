from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.instruments import judges
from stages.instruments.judges import Answer, Labelled
from stages.statistics.calibration import Calibration
from stages.statistics.undefined import Undefined

GOLD = judges.read(Path(__file__).parent.parent.parent / "data/sample/lean/gold.jsonl")


class Lengths:
    """A judge that scores the number of words, and keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: list[Answer] = []

    def score(self, answers: Sequence[Answer]) -> np.ndarray:
        self.seen += answers
        return np.array([float(len(answer.text.split())) for answer in answers])


def test_a_judge_is_shown_readable_answers_only() -> None:
    judge = Lengths()
    found = judges.judged(judge, [Answer("No."), Answer("Schools should be free for all.", "Who pays?"), Answer("")])
    assert np.isnan(found[[0, 2]]).all()
    assert found[1] == 6
    assert judge.seen == [Answer("Schools should be free for all.", "Who pays?")]


def test_nothing_readable_asks_nothing() -> None:
    judge = Lengths()
    assert np.isnan(judges.judged(judge, [Answer("No.")])).all()
    assert not judge.seen


def test_a_perfect_judge_has_no_error() -> None:
    found = judges.agreement(GOLD.scores, GOLD)
    assert [found[name] for name in ("spearman", "weighted_kappa", "mean_error", "offset", "unreadable")] == pytest.approx([1, 1, 0, 0, 0])
    assert judges.agreement(GOLD.scores + 2, GOLD)["offset"] == pytest.approx(2)


def test_texts_without_a_score_count_as_unreadable_and_nowhere_else() -> None:
    scores = GOLD.scores.copy()
    scores[:50] = np.nan
    found = judges.agreement(scores, GOLD)
    assert found["unreadable"] == pytest.approx(50 / 250)
    assert (found["n"], found["mean_error"]) == (250, 0)


def test_a_judge_that_always_says_the_same_gets_no_correlation() -> None:
    found = judges.agreement(np.full(250, 10.0), GOLD)
    assert "spearman" not in found
    assert isinstance(judges.calibrated(np.full(250, 10.0), GOLD.scores, seed=1), Undefined)
    assert isinstance(judges.calibrated(np.full(250, np.nan), GOLD.scores, seed=1), Undefined)


def test_a_judge_that_halves_distances_is_calibrated_to_twice_them() -> None:
    found = judges.calibrated(11 + (GOLD.scores - 10) / 2, GOLD.scores, seed=1)
    assert isinstance(found, Calibration)
    assert found.slope == pytest.approx(0.5)
    assert found.correct(12.0, np.full(2000, 12.0))[0] == pytest.approx(10 + (12 - 11) * 2)


def test_a_score_out_of_range_is_refused_with_its_row(tmp_path: Path) -> None:
    file = tmp_path / "gold.jsonl"
    file.write_text('{"text": "a", "score": 3, "topic": "t"}\n{"text": "b", "score": 21, "topic": "t"}\n')
    with pytest.raises(InputError, match="row 2: field score"):
        judges.read(file)
    with pytest.raises(InputError, match="missing.jsonl"):
        judges.read(tmp_path / "missing.jsonl")


def test_figures_without_texts_of_a_kind_say_so() -> None:
    unnamed = Labelled(["a"] * 12, np.arange(12.0), ["t"] * 12, np.zeros(12, dtype=bool))
    found = judges.agreement(np.arange(12.0), unnamed)
    assert found["with_cue"] == {"n": 0}
    assert found["without_cue"]["spearman"] == pytest.approx(1)
