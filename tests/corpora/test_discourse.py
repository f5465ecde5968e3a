import json
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.corpora.discourse import EDGES, TRUTHS, URLS, Source, read
from stages.corpora.truthsocial import COLUMNS


def truth(number: int, text: str = "Build the ships.", **fields: str) -> str:
    values = {"id": str(number), "timestamp": "2022-03-01 07:08:00", "is_retruth": "f", "is_reply": "f", "author": "7", "text": text, "truth_retruthed": "-1"} | fields
    return "\t".join(values.get(name, "0") for name in COLUMNS) + "\n"


def dump(folder: Path, edges: str, *truths: str, urls: str = "id\turl\n1\thttps://foxnews.com/a\n2\thttps://t.co/b\n") -> Source:
    (folder / TRUTHS).write_text("\t".join(COLUMNS) + "\n" + "".join(truths))
    (folder / URLS).write_text(urls)
    (folder / EDGES).write_text("id\ttruth_id\turl_id\n" + edges)
    return Source(format="truthsocial", path=folder)


def links(source: Source) -> dict[str, tuple[str, ...]]:
    return {record.native_id: record.links for record in read(source)}


def test_listed_links_stand_before_those_in_the_text(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    rows = [
        {"id": "1", "text": "Look https://t.co/short", "urls": ["https://foxnews.com/a", "https://foxnews.com/a"]},
        {"id": "2", "text": "Look (https://cnn.com/b) and https://vox.com/c", "urls": []},
        {"id": "3", "text": "No link at all", "urls": None},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = links(Source(format="table", path=path, columns={"urls": "urls"}))
    assert found == {"1": ("https://foxnews.com/a",) * 2, "2": ("https://cnn.com/b", "https://vox.com/c"), "3": ()}


def test_truths_have_the_links_of_their_edges(tmp_path: Path) -> None:
    found = links(dump(tmp_path, "10\t6\t1\n11\t5\t2\n12\t5\t1\n13\t99\t1\n", truth(5), truth(6), truth(7)))
    assert found == {"5": ("https://t.co/b", "https://foxnews.com/a"), "6": ("https://foxnews.com/a",), "7": ()}


def test_an_edge_to_a_url_that_is_not_listed_is_left_out(tmp_path: Path) -> None:
    assert links(dump(tmp_path, "10\t5\t3\n", truth(5))) == {"5": ()}


def test_a_truth_that_cannot_be_read_has_no_links(tmp_path: Path) -> None:
    found = links(dump(tmp_path, "10\t5\t1\n", "5\tbroken https://cnn.com\n", truth(6)))
    assert found == {"row 2": (), "6": ()}


def test_quotes_in_urls_do_no_harm(tmp_path: Path) -> None:
    found = links(dump(tmp_path, "10\t5\t1\n", truth(5), urls='id\turl\n1\thttps://cnn.com/"open\n2\thttps://vox.com\n'))
    assert found == {"5": ('https://cnn.com/"open',)}


@pytest.mark.parametrize("gone", [URLS, EDGES, TRUTHS])
def test_a_missing_file_is_named(tmp_path: Path, gone: str) -> None:
    source = dump(tmp_path, "", truth(5))
    (tmp_path / gone).unlink()
    with pytest.raises(InputError, match=rf"{gone}: there is no such file"):
        links(source)


def test_an_id_that_is_no_number_is_named_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{EDGES}: row 3: field truth_id: 'x' is no number"):
        links(dump(tmp_path, "10\t5\t1\n11\tx\t1\n", truth(5)))
    with pytest.raises(InputError, match=rf"{EDGES}: row 2: field url_id: '' is no number"):
        links(dump(tmp_path, "10\t5\n", truth(5)))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{URLS}: row 1: column url is missing\. The header has: id, link"):
        links(dump(tmp_path, "", truth(5), urls="id\tlink\n1\tx\n"))
