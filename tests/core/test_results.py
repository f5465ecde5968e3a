import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.progress import Progress
from stages.core.results import six_digits, write_metrics, write_plot


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_a_number_that_is_not_finite_is_refused_with_its_place(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match=r"metrics\.json: left: agreement is -?(nan|inf)"):
        write_metrics(tmp_path / "metrics.json", {"left": {"agreement": value}})


def test_refused_figures_leave_the_old_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    write_metrics(file, {"a": 1})
    with pytest.raises(ValueError, match="nan"):
        write_metrics(file, {"a": math.nan})
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("value", [None, [1, 2], np.float32(1)])
def test_what_is_no_figure_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match=f"metrics.json: a is a {type(value).__name__}"):
        write_metrics(tmp_path / "metrics.json", {"a": value})
    assert list(tmp_path.iterdir()) == []


def test_keys_are_sorted_at_every_level(tmp_path: Path) -> None:
    write_metrics(tmp_path / "new" / "metrics.json", {"right": {"z": 1, "a": 2}, "left": 3, "Ä": 4})
    assert (tmp_path / "new" / "metrics.json").read_text(encoding="utf-8") == ('{\n  "left": 3,\n  "right": {\n    "a": 2,\n    "z": 1\n  },\n  "Ä": 4\n}\n')


def test_numbers_have_six_significant_digits_and_other_values_stay(tmp_path: Path) -> None:
    write_metrics(
        tmp_path / "m.json",
        {"third": 1 / 3, "small": 1.23456789e-9, "big": 7654321.9, "rows": 123456789, "sure": True, "text": "0.123456789"},
    )
    assert json.loads((tmp_path / "m.json").read_text()) == {
        "third": 0.333333,
        "small": 1.23457e-9,
        "big": 7654320.0,
        "rows": 123456789,
        "sure": True,
        "text": "0.123456789",
    }


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0.0), (-2 / 3, -0.666667), (0.1 + 0.2, 0.3), (999999.5, 1000000.0), (12345.64, 12345.6)])
def test_six_digits(value: float, expected: float) -> None:
    assert six_digits(value) == expected


def test_a_plot_is_a_table_with_quoted_texts(tmp_path: Path) -> None:
    write_plot(tmp_path / "curve.csv", ["step", "loss", "note"], iter([(1, 2 / 3, "a, b"), (2, 0.5, 'say "x"\nno')]))
    assert (tmp_path / "curve.csv").read_bytes() == b'step,loss,note\n1,0.666667,"a, b"\n2,0.5,"say ""x""\nno"\n'


def test_rows_that_fail_halfway_leave_no_plot(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_plot(tmp_path / "curve.csv", ["step", "loss"], ((n, 1 / n) for n in (1, 0)))
    assert list(tmp_path.iterdir()) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_what_how_far_and_facts_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    progress = Progress("filter left", total=8, unit="posts")
    progress.add(5)
    progress.add(3, loss="0.25")
    progress.close()
    last = sys.stderr.getvalue().rstrip().split("\r")[-1]  # type: ignore[attr-defined]
    assert all(part in last for part in ("filter left", "8/8", "posts", "loss=0.25"))


def test_progress_is_silent_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress("filter left", total=8)
    progress.add(8, loss="0.25")
    progress.close()
    assert capfd.readouterr() == ("", "")
