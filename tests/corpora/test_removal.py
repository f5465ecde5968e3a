from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.corpora import removal


def test_ids_stand_one_a_line_among_comments(tmp_path: Path) -> None:
    (tmp_path / "removed.txt").write_text("# asked on 1 May\n\n  1234  \nrow 7\n#99\nabc # two mails\nt1_x#y\n")
    assert removal.read(tmp_path / "removed.txt").ids == {"1234", "row 7", "abc", "t1_x#y"}


def test_a_list_of_comments_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "removed.txt").write_text("# nothing yet\n")
    assert not removal.read(tmp_path / "removed.txt").name("1234", "")


def test_a_post_is_named_by_either_id() -> None:
    listed = removal.Removals(frozenset({"1234"}))
    assert listed.name("1234", "0a") and listed.name("0a", "1234") and not listed.name("12345", "0a")


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"removed\.txt: there is no such file.*git checkout"):
        removal.read(tmp_path / "removed.txt")


def test_a_list_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "removed.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        removal.read(tmp_path / "removed.txt")


def test_the_committed_list_removes_nothing() -> None:
    assert not removal.read(Path(__file__).parents[2] / "data/external/removed.txt").ids
