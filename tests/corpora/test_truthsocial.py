from datetime import UTC, datetime
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.corpora.record import Record
from stages.corpora.truthsocial import COLUMNS, read

PLAIN = {
    "id": "1",
    "timestamp": "2022-03-01 07:08:00",
    "time_scraped": "2022-09-20 03:00:00.000000",
    "is_retruth": "f",
    "is_reply": "f",
    "author": "1084",
    "like_count": "0",
    "retruth_count": "0",
    "reply_count": "0",
    "text": "Build the ships.",
    "external_id": "107",
    "url": "https://truth.example.com/107",
    "truth_retruthed": "-1",
}


def row(**fields: str) -> str:
    return "\t".join((PLAIN | fields)[name] for name in COLUMNS) + "\n"


def dump(folder: Path, *rows: str | bytes, header: str = "\t".join(COLUMNS) + "\n") -> Path:
    path = folder / "truths.tsv"
    path.write_bytes(b"".join(part if isinstance(part, bytes) else part.encode() for part in (header, *rows)))
    return path


def records(path: Path) -> list[Record]:
    return list(read(path))


def test_a_row_becomes_a_record(tmp_path: Path) -> None:
    assert records(dump(tmp_path, row())) == [Record("1", "1084", datetime(2022, 3, 1, 7, 8, tzinfo=UTC), "Build the ships.")]


@pytest.mark.parametrize("text", ['"Open quote', 'Tall 6\'2" and "proud', "one\ntwo\n\nthree", "\n first line blank", 'quote "\nnext" \'line', "cr\r\nlf"])
def test_raw_newlines_and_stray_quotes_stay_in_their_row(tmp_path: Path, text: str) -> None:
    found = records(dump(tmp_path, row(id="1", text=text), row(id="2", text="after")))
    assert [(record.native_id, record.text, record.unusable) for record in found] == [("1", text, None), ("2", "after", None)]


@pytest.mark.parametrize("tabs_left", range(1, len(COLUMNS)))
def test_a_row_broken_off_anywhere_does_not_swallow_the_next(tmp_path: Path, tabs_left: int) -> None:
    broken = "\t".join(row(id="2").rstrip("\n").split("\t")[:tabs_left]) + "\n"
    found = records(dump(tmp_path, row(id="1"), broken, row(id="3"), row(id="4")))
    assert [record.native_id for record in found] == ["1", "row 3", "3", "4"]
    assert [record.unusable for record in found] == [None, "unreadable", None, None]
    assert f"row 3: {tabs_left} fields instead of {len(COLUMNS)}" in found[1].problem


def test_a_row_broken_off_after_a_newline_in_its_text_does_not_swallow_the_next(tmp_path: Path) -> None:
    broken = row(id="1", text="first\nsecond").split("second")[0] + "seco\n"
    found = records(dump(tmp_path, broken, row(id="2")))
    assert [(record.native_id, record.unusable) for record in found] == [("row 2", "unreadable"), ("2", None)]


@pytest.mark.parametrize("cut", ["-1\n", "\t-1\n", "\t107\thttps", ".\t107"])
def test_a_file_that_ends_inside_a_row_stops_unless_all_fields_are_there(tmp_path: Path, cut: str) -> None:
    whole = row(id="2")
    path = dump(tmp_path, row(id="1"), whole[: whole.index(cut)])
    if cut == "-1\n":  # the last field is empty then, but all tabs are there
        assert [record.native_id for record in records(path)] == ["1", "2"]
    else:
        with pytest.raises(InputError, match=r"truths\.tsv: row 3: the file ends within the row, after \d+ of 13 fields"):
            records(path)


def test_a_truncated_dump_yields_what_came_before_and_then_stops(tmp_path: Path) -> None:
    rows = read(dump(tmp_path, row(id="1"), row(id="2", text="half")[:70]))
    assert next(rows).native_id == "1"
    with pytest.raises(InputError, match="row 3"):
        next(rows)


def test_a_last_row_without_newline_is_whole(tmp_path: Path) -> None:
    assert [record.unusable for record in records(dump(tmp_path, row(), row(id="2").rstrip("\n")))] == [None, None]


def test_a_row_with_broken_utf8_is_marked_with_its_place(tmp_path: Path) -> None:
    broken = row(id="2", text="caf@").encode().replace(b"@", b"\xe9")
    found = records(dump(tmp_path, row(id="1"), broken, row(id="3", text="caf\u00e9")))
    assert [record.unusable for record in found] == [None, "unreadable", None]
    assert f"row 3: byte {broken.index(0xE9)} is not UTF-8" in found[1].problem
    assert "caf\ufffd" in found[1].text
    assert found[2].text == "caf\u00e9"


@pytest.mark.parametrize("gone", COLUMNS)
def test_a_missing_column_is_named(tmp_path: Path, gone: str) -> None:
    header = "\t".join(name for name in COLUMNS if name != gone) + "\n"
    with pytest.raises(InputError, match=rf"truths\.tsv: row 1: column {gone} is missing"):
        records(dump(tmp_path, row(), header=header))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"truths\.tsv: there is no such file"):
        records(tmp_path / "truths.tsv")


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = dump(tmp_path, row().replace("\n", "\r\n"), header="\ufeff" + "\t".join(COLUMNS) + "\r\n")
    assert [(record.native_id, record.unusable) for record in records(path)] == [("1", None)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"is_retruth": "t"}, "empty"),
        ({"text": "  "}, "empty"),
        ({"author": "-1", "text": "-1"}, "deleted"),
        ({"author": "-1"}, None),
        ({"timestamp": "-1"}, None),
        ({"timestamp": "yesterday"}, "unreadable"),
    ],
)
def test_what_the_format_says_against_a_row(tmp_path: Path, fields: dict[str, str], expected: str | None) -> None:
    (record,) = records(dump(tmp_path, row(**fields)))
    assert record.unusable == expected


def test_minus_one_stands_for_no_author_and_no_time(tmp_path: Path) -> None:
    (record,) = records(dump(tmp_path, row(author="-1", timestamp="-1")))
    assert (record.author, record.created_at) == (None, None)


def test_a_row_with_a_tab_too_many_is_marked(tmp_path: Path) -> None:
    found = records(dump(tmp_path, row(id="1", text="a\tb"), row(id="2")))
    assert [(record.native_id, record.unusable) for record in found] == [("row 2", "unreadable"), ("2", None)]
    assert "14 fields instead of 13" in found[0].problem
