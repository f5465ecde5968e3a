from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.metrics.agreement import figures, read_gold


def row(name: str, score: int | None) -> dict[str, object]:
    chances = {f"p{k}": None if score is None else float(k == score) for k in range(4)}
    return {"id": name, "score": score, "kept": score is not None and score >= 2, **chances}


def test_counts_and_precision() -> None:
    scored = [row("a", 3), row("b", 2), row("c", 0), row("d", None), row("unknown", 3)]
    found = figures(scored, {"a": 3, "b": 0, "c": 0, "d": 3}, 2)
    assert (found["posts"], found["scored"], found["kept"], found["n"]) == (5, 4, 3, 3)
    assert found["kept_share"] == pytest.approx(3 / 4)
    assert found["kept_precision"] == pytest.approx(1 / 2)
    assert found["gold_share"] == pytest.approx(1 / 3)


def test_without_gold_there_are_counts_only() -> None:
    assert figures([row("a", 3)], {}, 2) == {"posts": 1, "scored": 1, "kept": 1, "kept_share": 1.0}


def test_a_wrong_gold_score_is_refused_with_its_row(tmp_path: Path) -> None:
    file = tmp_path / "gold.csv"
    file.write_text("native_id,score\n1,2\n2,4\n")
    with pytest.raises(InputError, match="row 3: field score: 4"):
        read_gold(file)


def test_a_missing_gold_column_is_named(tmp_path: Path) -> None:
    file = tmp_path / "gold.csv"
    file.write_text("id,score\n1,2\n")
    with pytest.raises(InputError, match="native_id is missing. The file has: id, score"):
        read_gold(file)
