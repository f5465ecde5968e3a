import numpy as np
import pytest

from stages.metrics.judge import figures


def test_unreadable_answers_count_but_do_not_score() -> None:
    scores = np.array([[4.0, np.nan], [8.0, 6.0]])
    found = figures(scores, seed=1)
    assert found["readable"] == 0.75
    assert isinstance(found["score"], dict)
    assert found["score"]["value"] == pytest.approx(6.0)
    assert found["score"]["low"] <= 6.0 <= found["score"]["high"]


def test_a_model_that_says_nothing_gets_no_score() -> None:
    assert figures(np.full((3, 2), np.nan), seed=1) == {"readable": 0.0}
