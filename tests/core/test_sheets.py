from pathlib import Path

import pytest

from stages.core import sheets
from stages.core.errors import InputError


def test_text_columns_stay_text_and_empty_cells_empty(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("id,score\n007,1\n,2\n")
    sheet = sheets.read(tmp_path / "s.csv", ["id", "score"], text=["id"])
    assert sheet["id"].tolist() == ["007", ""]
    assert sheet["score"].tolist() == [1, 2]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00a,b\n"])
def test_what_is_no_sheet_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "s.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"s\.csv: is not readable as CSV"):
        sheets.read(tmp_path / "s.csv", ["id"], text=["id"])
