from pathlib import Path

import numpy as np
import pytest

from stages.errors import InputError
from stages.instruments import lean_classifier
from stages.instruments.lean_classifier import LeanClassifier

SAMPLE = Path(__file__).parent.parent.parent / "data/sample/lean"


@pytest.fixture(scope="module")
def classifier() -> LeanClassifier:
    return LeanClassifier(lean_classifier.read(SAMPLE / "training.jsonl"))


def test_it_ranks_the_gold_statements(classifier: LeanClassifier) -> None:
    gold = lean_classifier.read(SAMPLE / "gold.jsonl")
    found = lean_classifier.quality(classifier.score(gold.texts), gold)
    assert found["spearman"] > 0.4
    assert abs(found["offset"]) < 1
    assert found["without_cue"]["n"] == found["with_cue"]["n"] == 125


def test_scores_stay_in_range_and_silence_is_the_centre(classifier: LeanClassifier) -> None:
    found = classifier.score(["", "   ", "Tax the billionaires and cover everyone!" * 3])
    assert found[:2] == pytest.approx([10, 10])
    assert 0 <= found[2] < 10


def test_training_and_gold_share_no_text() -> None:
    texts = [set(lean_classifier.read(SAMPLE / name).texts) for name in ("training.jsonl", "gold.jsonl")]
    assert not texts[0] & texts[1]


def test_a_perfect_judge_has_no_error() -> None:
    gold = lean_classifier.read(SAMPLE / "gold.jsonl")
    found = lean_classifier.quality(gold.scores, gold)
    assert (found["spearman"], found["weighted_kappa"], found["mean_error"], found["offset"]) == pytest.approx((1, 1, 0, 0))
    shifted = lean_classifier.quality(np.minimum(gold.scores + 2, 30), gold)
    assert shifted["offset"] == pytest.approx(2)


def test_a_score_out_of_range_is_refused_with_its_row(tmp_path: Path) -> None:
    file = tmp_path / "gold.jsonl"
    file.write_text('{"text": "a", "score": 3, "topic": "t"}\n{"text": "b", "score": 21, "topic": "t"}\n')
    with pytest.raises(InputError, match="row 2: field score"):
        lean_classifier.read(file)
