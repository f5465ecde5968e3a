import numpy as np
import pytest

from stages.statistics import strata


def test_each_row_gets_the_mean_of_its_stratum() -> None:
    assert strata.means(np.array([1.0, 5.0, 3.0, 9.0]), np.array([-1, 1, -1, 1])) == pytest.approx([2, 7, 2, 7])


def test_strata_may_differ_in_size() -> None:
    assert strata.means(np.array([1.0, 5.0, 3.0]), np.array([4, 4, 0])) == pytest.approx([3, 3, 3])
