import numpy as np
import pytest

from stages.statistics.multilabel import macro_f1


def labels(*rows: tuple[int, ...]) -> np.ndarray:
    return np.array(rows, dtype=bool)


def test_macro_f1_is_the_mean_over_topics() -> None:
    gold, found = labels((1, 0), (1, 0), (0, 1), (0, 0)), labels((1, 0), (0, 1), (0, 1), (1, 0))
    # Topic 1: 1 both, 2 gold, 2 found, so 1/2; topic 2: 1 both, 1 gold, 2 found, so 2/3.
    assert macro_f1(gold, found)[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert macro_f1(gold, found, np.array([[1.0, 0, 1, 0], [0, 0, 0, 0]])) == pytest.approx([1, 0])
