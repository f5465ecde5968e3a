import pytest

from stages.statistics.agreement import agreement


def test_perfect_agreement() -> None:
    found = agreement([0, 1, 2, 3], [0, 1, 2, 3], [0.0, 1.0, 2.0, 3.0], 4, 2)
    assert (found["macro_f1"], found["weighted_kappa"], found["spearman"], found["auc"]) == pytest.approx((1, 1, 1, 1))
    assert found["confusion"]["gold_2"] == {"score_0": 0, "score_1": 0, "score_2": 1, "score_3": 0}


def test_reversed_scores_disagree_fully() -> None:
    found = agreement([0, 1, 2, 3], [3, 2, 1, 0], [3.0, 2.0, 1.0, 0.0], 4, 2)
    assert (found["weighted_kappa"], found["spearman"], found["auc"]) == pytest.approx((-1, -1, 0))


def test_measures_that_need_two_classes_are_left_out() -> None:
    found = agreement([2, 2], [2, 3], [2.0, 3.0], 4, 2)
    assert "auc" not in found
    assert "weighted_kappa" not in found
