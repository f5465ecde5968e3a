import numpy as np
import pytest

from stages.statistics.comparison import compare
from stages.statistics.undefined import Undefined

KINDS = np.repeat([1, -1], 16)


def differences(mean: float, spread: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, spread, size=(32, 2))
    return mean + noise - noise.mean()


@pytest.mark.parametrize(
    ("mean", "spread", "margin", "conclusion"),
    [
        (2.0, 1.0, 1.0, "higher"),
        (-2.0, 1.0, 1.0, "lower"),
        (0.0, 0.5, 1.0, "equivalent"),
        (0.5, 0.3, 1.0, "higher but equivalent"),
        (-0.5, 0.3, 1.0, "lower but equivalent"),
        (0.0, 9.0, 1.0, "undecided"),
    ],
)
def test_what_may_be_concluded(mean: float, spread: float, margin: float, conclusion: str) -> None:
    assert compare(differences(mean, spread), KINDS, margin, 1).conclusion == conclusion


def test_swapping_both_models_changes_signs_alone() -> None:
    one, other = (compare(sign * differences(0.7, 1.0), KINDS, 1.0, 1) for sign in (1, -1))
    assert one.estimate.value == pytest.approx(0.7)
    assert (one.estimate.value, one.size.value, one.p) == pytest.approx((-other.estimate.value, -other.size.value, other.p))


def test_missing_cells_and_items_are_left_out() -> None:
    full = differences(1.0, 0.5)
    gaps = np.vstack([full, np.full((3, 2), np.nan)])
    gaps[0, 0] = np.nan
    found = compare(gaps, np.append(KINDS, [1, 1, -1]), 1.0, 1)
    assert found.estimate.value == pytest.approx(np.nanmean(gaps))
    assert 0 < found.p < 0.05


def test_identical_models_have_no_effect_size_and_are_equivalent() -> None:
    found = compare(np.zeros((32, 2)), KINDS, 1.0, 1)
    assert isinstance(found.size, Undefined)
    assert found.p == 1
    assert found.figures()["conclusion"] == "equivalent"
    assert "g" not in found.figures()


def test_without_any_difference_to_test_it_is_refused() -> None:
    with pytest.raises(ValueError, match="no value"):
        compare(np.full((2, 1), np.nan), np.zeros(2, dtype=np.int64), 1.0, 1)
