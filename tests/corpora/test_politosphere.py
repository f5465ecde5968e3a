import bz2
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import InputError
from stages.corpora.politosphere import COLUMNS, read
from stages.corpora.record import Record

PLAIN = {"id": "c1", "author": "will", "body": "Tax the rich.", "created_utc": 1496275809, "language": "en", "subreddit": "democrats"}


def line(**fields: Any) -> bytes:
    return json.dumps(PLAIN | fields).encode() + b"\n"


def dump(folder: Path, *lines: bytes, month: str = "2017-06") -> Path:
    parties = {"democrats": "dem", "Conservative": "rep", "politics": ""}
    metadata = "".join(json.dumps({"subreddit": name, "party": party}) + "\n" for name, party in parties.items())
    (folder / "subreddits_metadata.json").write_text(metadata)
    (folder / f"comments_{month}.bz2").write_bytes(bz2.compress(b"".join(lines)))
    return folder


def records(folder: Path, party: str = "dem") -> list[Record]:
    return list(read(folder, party, "en"))


def test_a_comment_becomes_a_record(tmp_path: Path) -> None:
    moment = datetime(2017, 6, 1, 0, 10, 9, tzinfo=UTC)
    assert moment.timestamp() == PLAIN["created_utc"]
    assert records(dump(tmp_path, line())) == [Record("c1", "will", moment, "Tax the rich.")]


def test_only_subreddits_of_the_party_are_read(tmp_path: Path) -> None:
    dump(
        tmp_path,
        line(id="a"),
        line(id="b", subreddit="Conservative"),
        line(id="c", subreddit="politics"),
        line(id="d", subreddit="unheard"),
    )
    assert [record.native_id for record in records(tmp_path, "dem")] == ["a"]
    assert [record.native_id for record in records(tmp_path, "rep")] == ["b"]


def test_months_follow_each_other(tmp_path: Path) -> None:
    dump(tmp_path, line(id="later"), month="2018-10")
    dump(tmp_path, line(id="earlier"), month="2017-06")
    assert [record.native_id for record in records(tmp_path)] == ["earlier", "later"]


def test_a_half_written_bz2_stops_with_the_file(tmp_path: Path) -> None:
    dump(tmp_path, *(line(id=f"c{i}", body=f"text {i * 7919}") for i in range(500)))
    path = tmp_path / "comments_2017-06.bz2"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"comments_2017-06\.bz2: row \d+: the bz2 stream is broken .*Download the file again"):
        records(tmp_path)


def test_a_damaged_bz2_stops_with_the_file(tmp_path: Path) -> None:
    dump(tmp_path, line())
    path = tmp_path / "comments_2017-06.bz2"
    path.write_bytes(b"no bz2 at all")
    with pytest.raises(InputError, match=r"comments_2017-06\.bz2: row 1: the bz2 stream is broken"):
        records(tmp_path)


def test_a_party_without_subreddits_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no subreddit is of party 'green'; there are: .*dem, rep"):
        records(dump(tmp_path, line()), "green")


def test_a_folder_without_metadata_or_months_says_what_is_missing(tmp_path: Path) -> None:
    dump(tmp_path, line())
    (tmp_path / "comments_2017-06.bz2").unlink()
    with pytest.raises(InputError, match=r"holds no comments_YYYY-MM\.bz2"):
        records(tmp_path)
    (tmp_path / "subreddits_metadata.json").write_text('{"subreddit": "democrats"')
    with pytest.raises(InputError, match=r"subreddits_metadata\.json: is not one JSON object"):
        records(tmp_path)
    (tmp_path / "subreddits_metadata.json").unlink()
    with pytest.raises(InputError, match=r"subreddits_metadata\.json: there is no such file"):
        records(tmp_path)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b'{"id": "c2", "body": "bro\n', "row 2: is no JSON"),
        (line(body="caf@").replace(b"@", b"\xe9"), "is not UTF-8"),
        (b'{"id": "c2"}\n', "row 2: field author, body, created_utc, language, subreddit is missing"),
        (b"[1, 2]\n", "row 2: field id"),
        (line(created_utc="soon"), "row 2: field created_utc: 'soon' is no time"),
        (line(created_utc=float("inf")), "row 2: field created_utc"),
        (line(created_utc=10**17), "row 2: field created_utc"),
        (line(created_utc=10**30), "row 2: field created_utc"),
        (line(body=None), "row 2: field body"),
        (line(subreddit=["democrats"]), "row 2: field subreddit"),
    ],
)
def test_a_bad_row_is_marked_and_its_neighbours_are_read(tmp_path: Path, bad: bytes, problem: str) -> None:
    found = records(dump(tmp_path, line(id="c1"), bad, line(id="c3")))
    assert [(record.native_id, record.unusable) for record in found] == [
        ("c1", None),
        ("comments_2017-06.bz2 row 2", "unreadable"),
        ("c3", None),
    ]
    assert "comments_2017-06.bz2" in found[1].problem
    assert problem in found[1].problem


@pytest.mark.parametrize("gone", COLUMNS)
def test_a_field_that_the_first_row_lacks_stops_and_is_named(tmp_path: Path, gone: str) -> None:
    first = json.dumps({name: value for name, value in PLAIN.items() if name != gone}).encode() + b"\n"
    with pytest.raises(InputError, match=rf"comments_2017-06\.bz2: row 1: field {gone} is missing"):
        records(dump(tmp_path, first))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"author": "[deleted]"}, "deleted"),
        ({"body": "[removed]"}, "deleted"),
        ({"body": "[deleted]"}, "deleted"),
        ({"language": "de"}, "language"),
        ({"language": None}, None),
        ({"language": ""}, None),
        ({"author": "[deleted]", "language": "de"}, "deleted"),
    ],
)
def test_what_the_format_says_against_a_comment(tmp_path: Path, fields: dict[str, Any], expected: str | None) -> None:
    (record,) = records(dump(tmp_path, line(**fields)))
    assert record.unusable == expected


def test_a_deleted_author_is_nobody(tmp_path: Path) -> None:
    (record,) = records(dump(tmp_path, line(author="[deleted]")))
    assert record.author is None
