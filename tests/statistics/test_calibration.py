import numpy as np
import pytest
from numpy.random import Generator

from stages.statistics import calibration
from stages.statistics.bootstrap import Estimate, crossed_mean, estimate, interval
from stages.statistics.calibration import Calibration
from stages.statistics.undefined import Undefined

CASES = 100
NO_STRATA = np.zeros(25, dtype=int)


def judge(truth: np.ndarray, random: Generator) -> np.ndarray:
    """Reads everything too far right and too near the centre."""
    return 7 + 0.5 * truth + random.normal(0, 2, size=truth.shape)


def gold_set(random: Generator, n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    gold = random.uniform(0, 20, size=n)
    return judge(gold, random), gold


def answers(mean: float, random: Generator) -> np.ndarray:
    """True scores of 4 answers to each of 25 questions."""
    return mean + random.normal(0, 2, size=(25, 1)) + random.normal(0, 1, size=(25, 4))


def line(judged: np.ndarray, gold: np.ndarray, seed: int = 1) -> Calibration:
    found = calibration.by_line(judged, gold, seed)
    assert isinstance(found, Calibration)
    return found


def test_an_exact_judge_is_read_back_exactly() -> None:
    gold = np.linspace(0, 20, 50)
    corrected = interval(*line(3 + 0.5 * gold, gold).correct(3 + 0.5 * 14, np.full(2000, 3 + 0.5 * 14)))
    assert (corrected.value, corrected.low, corrected.high) == pytest.approx((14, 14, 14))


def test_reading_back_and_judging_are_inverse() -> None:
    found = line(*gold_set(np.random.default_rng(0)))
    assert found.true(found.judged(13.0)) == pytest.approx(13.0)
    assert found.judged(20.0) - found.judged(10.0) == pytest.approx(10 * found.slope)


def coverage(truth: float, correct) -> float:
    hits = 0
    for seed in range(CASES):
        random = np.random.default_rng(seed)
        found: Estimate = correct(judge(answers(truth, random), random), random, seed)
        hits += found.low <= truth <= found.high
    return hits / CASES


def test_the_corrected_interval_covers_the_truth_and_the_judges_own_does_not() -> None:
    def corrected(scores, random, seed):
        return interval(*line(*gold_set(random), seed).correct(*crossed_mean(scores, NO_STRATA, seed)))

    assert coverage(7.0, corrected) >= 0.9
    assert coverage(7.0, lambda scores, random, seed: estimate(scores, NO_STRATA, seed)) < 0.1


def test_the_interval_would_be_too_narrow_without_the_error_of_the_calibration() -> None:
    def ends(few: int) -> float:
        random = np.random.default_rng(1)
        found = interval(*line(*gold_set(random, few)).correct(10.0, np.full(2000, 10.0)))
        return found.high - found.low

    assert ends(50) == pytest.approx(2 * ends(200), rel=0.3)


def test_a_difference_is_stretched_but_not_shifted() -> None:
    calibrated = line(*gold_set(np.random.default_rng(2)))
    draws = np.random.default_rng(3).normal(1, 0.1, size=2000)
    found = interval(*calibrated.correct_difference(1.0, draws))
    assert found.value == pytest.approx(1 / calibrated.slope)
    assert found.low < 2 < found.high  # the slope is one half


def test_differences_are_covered_too() -> None:
    hits = 0
    for seed in range(CASES):
        random = np.random.default_rng(seed)
        right, left = (judge(answers(truth, random), random) for truth in (11.5, 8.5))
        found = interval(*line(*gold_set(random), seed).correct_difference(*crossed_mean(right - left, NO_STRATA, seed)))
        hits += found.low <= 3 <= found.high
    assert hits >= 0.9 * CASES


def test_figures_tell_slope_and_offset() -> None:
    gold = np.linspace(0, 20, 41)
    found = line(2 + 0.8 * gold, gold).figures()
    assert found["slope"] == pytest.approx({"value": 0.8, "low": 0.8, "high": 0.8})
    assert found["offset"]["value"] == pytest.approx(0)  # 2 + 0.8 x 10 - 10


def test_a_judge_that_does_not_follow_gold_cannot_be_corrected() -> None:
    random = np.random.default_rng(5)
    gold = random.uniform(0, 20, size=100)
    assert calibration.by_line(random.normal(10, 3, size=100), gold, 1) == Undefined("the judge's scores do not reliably rise with gold scores")
    assert calibration.by_line(-gold, gold, 1) == Undefined("the judge's scores do not reliably rise with gold scores")
    assert calibration.by_line(gold, np.full(100, 10.0), 1) == Undefined("gold scores do not differ")
