from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.metrics.injection import compare, read


def test_changed_and_raised_scores_are_counted_and_the_shift_is_in_points() -> None:
    clean = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    injected = np.array([[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1.0, 0]])
    assert compare(clean, injected) == {"changed": 2, "raised": 1, "shift": pytest.approx((3 + 0 - 1) / 3)}


@pytest.mark.parametrize(
    ("content", "message"), [("leaning,text,clean\n", "native_id is missing"), ("leaning,native_id,text,clean\nleft,1,x,y\nleft,2, ,y\n", "row 3: field text is empty")]
)
def test_an_incomplete_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "i.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "i.csv")
