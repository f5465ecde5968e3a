import csv
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core.errors import InputError
from stages.corpora.record import Record
from stages.corpora.table import read

Rows = Sequence[Mapping[str, Any]]


def jsonl(folder: Path, rows: Rows) -> Path:
    path = folder / "posts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def csv_file(folder: Path, rows: Rows) -> Path:
    path = folder / "posts.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def parquet(folder: Path, rows: Rows) -> Path:
    path = folder / "posts.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


each_format = pytest.mark.parametrize(("make", "first_row"), [(jsonl, 1), (csv_file, 2), (parquet, 1)])
Make = Callable[[Path, Rows], Path]
WEIRD = 'Tall 6\'2" said "hi",\n\nthen left; caf\u00e9 \U0001f600\ttab'


@each_format
def test_mapped_columns_are_read(tmp_path: Path, make: Make, first_row: int) -> None:
    rows = [
        {"key": "k1", "who": "ann", "when": "2022-03-01T07:08:00+00:00", "body": WEIRD, "text": "not this"},
        {"key": "k2", "who": "bob", "when": "2022-03-02T07:08:00+00:00", "body": "two", "text": "nor this"},
    ]
    found = list(read(make(tmp_path, rows), {"id": "key", "author": "who", "created_at": "when", "text": "body"}))
    assert found == [
        Record("k1", "ann", datetime(2022, 3, 1, 7, 8, tzinfo=UTC), WEIRD),
        Record("k2", "bob", datetime(2022, 3, 2, 7, 8, tzinfo=UTC), "two"),
    ]


@each_format
def test_columns_under_our_names_need_no_map(tmp_path: Path, make: Make, first_row: int) -> None:
    (found,) = read(make(tmp_path, [{"text": "hello", "author": "ann", "id": "k1", "other": "x"}]), {})
    assert found == Record("k1", "ann", None, "hello")


@each_format
def test_without_ids_the_row_number_identifies_the_post(tmp_path: Path, make: Make, first_row: int) -> None:
    found = list(read(make(tmp_path, [{"text": "same"}, {"text": "same"}, {"text": "same"}]), {}))
    assert [record.native_id for record in found] == [f"row {first_row + i}" for i in range(3)]


@each_format
def test_a_wrong_column_is_named_with_those_that_there_are(tmp_path: Path, make: Make, first_row: int) -> None:
    path = make(tmp_path, [{"body": "hello", "who": "ann"}])
    with pytest.raises(InputError, match=r"column author_name is missing\. The file has: body, who\. Set columns of this source"):
        list(read(path, {"text": "body", "author": "author_name"}))
    with pytest.raises(InputError, match="column text is missing"):
        list(read(path, {}))


@each_format
def test_all_wrong_columns_are_reported_together(tmp_path: Path, make: Make, first_row: int) -> None:
    with pytest.raises(InputError, match="column nope, neither is missing"):
        list(read(make(tmp_path, [{"body": "hello"}]), {"author": "nope", "text": "neither"}))


@each_format
def test_a_blank_text_is_empty(tmp_path: Path, make: Make, first_row: int) -> None:
    found = list(read(make(tmp_path, [{"id": "1", "text": " \n"}, {"id": "2", "text": "x"}]), {}))
    assert [record.unusable for record in found] == ["empty", None]


@each_format
@pytest.mark.parametrize("when", ["yesterday", "99999999999999999", "2022-13-01"])
def test_a_bad_time_marks_its_row_only(tmp_path: Path, make: Make, first_row: int, when: str) -> None:
    found = list(read(make(tmp_path, [{"text": "a", "created_at": when}, {"text": "b", "created_at": "1646118480"}]), {}))
    assert [record.unusable for record in found] == ["unreadable", None]
    assert f"row {first_row}: field created_at: '{when}' is no time" in found[0].problem


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1646118480, datetime(2022, 3, 1, 7, 8, tzinfo=UTC)),
        ("1646118480", datetime(2022, 3, 1, 7, 8, tzinfo=UTC)),
        ("2022-03-01 07:08:00", datetime(2022, 3, 1, 7, 8, tzinfo=UTC)),
        ("2022-03-01T09:08:00+02:00", datetime(2022, 3, 1, 7, 8, tzinfo=UTC)),
        ("2022-03-01T07:08:00Z", datetime(2022, 3, 1, 7, 8, tzinfo=UTC)),
        ("", None),
        (None, None),
    ],
)
def test_times_may_be_seconds_or_iso_8601_and_are_utc_without_a_zone(tmp_path: Path, value: object, expected: datetime | None) -> None:
    (record,) = read(jsonl(tmp_path, [{"text": "a", "created_at": value}]), {})
    assert record.created_at == expected


def test_parquet_timestamps_keep_their_moment(tmp_path: Path) -> None:
    aware = datetime(2022, 3, 1, 9, 8, tzinfo=timezone(timedelta(hours=2)))
    path = tmp_path / "posts.parquet"
    pq.write_table(pa.table({"text": ["a"], "created_at": pa.array([aware], pa.timestamp("us", tz="UTC"))}), path)
    (record,) = read(path, {})
    assert record.created_at == aware


@pytest.mark.parametrize("text", [None, 7, ["a"], {"a": 1}])
def test_a_text_that_is_no_text_marks_its_row(tmp_path: Path, text: object) -> None:
    found = list(read(jsonl(tmp_path, [{"id": "1", "text": "a"}, {"id": "2", "text": text}]), {}))
    assert [(record.native_id, record.unusable) for record in found] == [("1", None), ("2", "unreadable")]
    assert "row 2: field text" in found[1].problem


@pytest.mark.parametrize("bad", [b'{"text": "bro\n', b'{"text": "caf\xe9"}\n', b'["text"]\n', b"7\n"])
def test_a_bad_json_line_is_marked_and_its_neighbours_are_read(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b'{"text": "one"}\n' + bad + b'{"text": "three"}\n')
    found = list(read(path, {}))
    assert [(record.native_id, record.unusable) for record in found] == [("row 1", None), ("row 2", "unreadable"), ("row 3", None)]
    assert "posts.jsonl: row 2: is no JSON" in found[1].problem


def test_a_json_file_that_ends_inside_a_row_stops(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_text('{"text": "one"}\n{"text": "tw')
    with pytest.raises(InputError, match=r"posts\.jsonl: row 2: the file ends within the row"):
        list(read(path, {}))


def test_a_last_json_line_needs_no_newline_and_blank_lines_are_none(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "two"}')
    assert [record.text for record in read(path, {})] == ["one", "two"]


def test_a_field_that_the_first_json_line_lacks_is_read_where_it_is(tmp_path: Path) -> None:
    found = list(read(jsonl(tmp_path, [{"text": "one"}, {"text": "two", "author": "ann", "id": "k2"}]), {}))
    assert [(record.native_id, record.author) for record in found] == [("row 1", None), ("k2", "ann")]


@pytest.mark.parametrize(("bad", "problem"), [(b"1,a,b\n", "number of fields"), (b"1\n", "number of fields"), (b"1,caf\xe9\n", "is not UTF-8")])
def test_a_bad_csv_row_is_marked_and_its_neighbours_are_read(tmp_path: Path, bad: bytes, problem: str) -> None:
    path = tmp_path / "posts.csv"
    path.write_bytes(b"\xef\xbb\xbfid,text\nx,one\n" + bad + b"y,three\n")
    found = list(read(path, {}))
    assert [(record.native_id, record.unusable) for record in found] == [("x", None), ("row 3", "unreadable"), ("y", None)]
    assert problem in found[1].problem


def test_a_csv_file_that_ends_inside_a_quoted_text_stops(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_text('id,text\n1,one\n2,"half a te')
    with pytest.raises(InputError, match=r"posts\.csv: row 3"):
        list(read(path, {}))


def test_a_quote_that_csv_never_closes_stops_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_text('id,text\n1,"' + "open to the end,\n" * 10_000)
    with pytest.raises(InputError, match=r"posts\.csv: row 2"):
        list(read(path, {}))


def test_a_half_written_parquet_file_stops(tmp_path: Path) -> None:
    path = parquet(tmp_path, [{"text": "one"}])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"posts\.parquet: is not a readable Parquet file"):
        list(read(path, {}))


def test_other_kinds_of_file_and_missing_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"posts\.jsonl: there is no such file"):
        list(read(tmp_path / "posts.jsonl", {}))
    (tmp_path / "posts.xlsx").touch()
    with pytest.raises(InputError, match=r"a table ends in \.jsonl, \.csv, \.parquet, not in '\.xlsx'"):
        list(read(tmp_path / "posts.xlsx", {}))


@pytest.mark.parametrize("make", [jsonl, parquet])
def test_mapped_links_are_read_from_a_list(tmp_path: Path, make: Make) -> None:
    rows = [{"text": "a", "links": ["https://cnn.com", "https://vox.com/x"]}, {"text": "b", "links": []}, {"text": "c", "links": None}]
    assert [record.links for record in read(make(tmp_path, rows), {"urls": "links"})] == [("https://cnn.com", "https://vox.com/x"), (), ()]


def test_mapped_links_may_be_text_with_blanks_between(tmp_path: Path) -> None:
    (found, none) = read(csv_file(tmp_path, [{"text": "a", "urls": "https://cnn.com  https://vox.com/x"}, {"text": "b", "urls": ""}]), {"urls": "urls"})
    assert (found.links, none.links) == (("https://cnn.com", "https://vox.com/x"), ())


@pytest.mark.parametrize("urls", [7, {"expanded": "https://cnn.com"}, ["https://cnn.com", None], [{"expanded": "https://cnn.com"}]])
def test_links_of_another_form_mark_their_row(tmp_path: Path, urls: object) -> None:
    (found,) = read(jsonl(tmp_path, [{"id": "1", "text": "a", "urls": urls}]), {"urls": "urls"})
    assert found.unusable == "unreadable"
    assert "row 1: field urls" in found.problem


def test_links_are_read_only_where_they_are_mapped(tmp_path: Path) -> None:
    (found,) = read(jsonl(tmp_path, [{"id": "1", "text": "a", "urls": [{"expanded": "https://cnn.com"}]}]), {})
    assert (found.unusable, found.links) == (None, ())
    with pytest.raises(InputError, match="column links is missing"):
        list(read(jsonl(tmp_path, [{"text": "a"}]), {"urls": "links"}))
