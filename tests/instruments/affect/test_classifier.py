import numpy as np
import pytest

from stages.instruments.affect.classifier import EMOTIONS, LABELS, MORALS, PLUTCHIK, Weighing, weights

SCORES = np.array([[0.5, 0.9, 0.1], [0.4, 0.4, 0.4]])


@pytest.mark.parametrize(("weighing", "expected"), [("labels", [1, 1, 0]), ("posts", [0.5, 0.5, 0]), ("scores", [0.5, 0.9, 0])])
def test_a_post_weighs_on_the_labels_that_reach_the_threshold(weighing: Weighing, expected: list[float]) -> None:
    found = weights(SCORES, 0.5, weighing)
    assert found[0] == pytest.approx(expected)
    assert found[1] == pytest.approx([0, 0, 0])


def test_there_are_eleven_emotions_eight_of_them_plutchiks_and_ten_morals() -> None:
    assert (len(set(EMOTIONS)), len(set(MORALS))) == (11, 10)
    assert set(PLUTCHIK) < set(EMOTIONS)
    assert LABELS == {"emotion": EMOTIONS, "moral": MORALS}
