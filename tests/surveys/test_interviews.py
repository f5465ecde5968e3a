from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.surveys.interviews import answered, distribution, on_scale, read, scale, write


def row(respondent: str = "r", item: str = "parks", answer: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{respondent}{item}",
        "respondent": respondent,
        "item": item,
        "wording": "form",
        "persona": "Sex: female",
        "question": "How are they?",
        "options": ["good", "bad", "fair"],
        "order": [2, 0, 1],
        "answer": answer,
        "weight": 1.0,
        "split": "train",
        "synthetic": False,
        "sex": "female",
        "party": None,
    } | more


def test_a_table_remembers_what_personas_state(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [row()], ["sex", "party"], ["party"])
    table = read(tmp_path / "t.parquet")
    assert (table.demographics, table.stated) == (("sex", "party"), ("sex",))
    assert table.rows == [row()]


def test_an_attribute_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [row()], ["sex", "party"], [])
    table = read(tmp_path / "t.parquet")
    table.require(["sex"], "simulate.parity")
    with pytest.raises(InputError, match=r"simulate\.parity: .*t\.parquet has no 'region', only sex, party"):
        table.require(["region"], "simulate.parity")


def test_a_table_without_interviews_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [], ["sex"], [])
    with pytest.raises(InputError, match=r"t\.parquet: holds no interview"):
        read(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="there is no such file"):
        read(tmp_path / "nowhere.parquet")


def test_answers_are_read_on_the_scale() -> None:
    assert scale(row()) == ("bad", "fair", "good")
    assert [on_scale(row(answer=i)) for i in range(3)] == [2, 0, 1]
    np.testing.assert_array_equal(distribution([row(answer=0), row(answer=1, weight=3.0)], 3), [3, 0, 1])


def test_each_respondent_counts_once_an_item() -> None:
    assert len(answered([row(), row(), row(item="roads"), row("s")])) == 3
