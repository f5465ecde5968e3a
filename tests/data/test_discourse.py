import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.core import tables
from stages.core.errors import InputError
from stages.core.files import short_hash
from stages.corpora.domains import Domains
from stages.corpora.record import Record
from stages.data.discourse import NOTHING_KNOWN, Evidence, Params, Side, main, side_of

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data/sample/discourse"
KNOWN = Domains({"cnn.com": -0.66, "nytimes.com": -0.33, "reuters.com": 0.0, "foxnews.com": 0.66, "theonion.com": None}, frozenset({"youtube.com"}))
WORDS = "I have read this whole story twice and I still do not believe it."
CLEANING = {
    **{"sources": {}, "parties": {}, "language": "en", "language_certainty": 0.9, "min_words": 4},
    **{"duplicate_similarity": 0.6, "max_unreadable": 0.2, "salt": "pepper"},
}


def values(**changes: object) -> dict[str, Any]:
    return {"source": {"format": "table", "path": "posts.jsonl", "columns": {"urls": "urls"}}, "domains": {"path": "domains.csv"}, "min_links": 2, "threshold": 0.15} | changes


def evidence(*posts: tuple[str | None, Sequence[str]]) -> Evidence:
    found = Evidence(KNOWN)
    for number, (author, links) in enumerate(posts):
        found.add(Record(str(number), author, None, WORDS, links=tuple(links)))
    return found


def told(folder: Path, monkeypatch: pytest.MonkeyPatch, posts: Sequence[dict[str, Any]], listed: str, removed: str = "", **changes: object) -> list[dict[str, Any]]:
    monkeypatch.chdir(folder)
    YAML().dump({"collect": CLEANING, "discourse": values(**changes)}, Path("params.yaml"))
    Path("posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    Path("domains.csv").write_text(listed)
    Path("removed.txt").write_text(removed)
    main(Path("posts.jsonl"), Path("domains.csv"), Path("removed.txt"), Path("sided.parquet"), Path("shared.csv"))
    return list(tables.read(Path("sided.parquet"), tables.SIDED).to_pylist())


@pytest.mark.parametrize(
    ("scores", "links", "expected"),
    [
        (0.0, 0, NOTHING_KNOWN),
        (0.66, 1, Side(0.66, "unknown", 1)),
        (1.32, 2, Side(0.66, "conservative", 2)),
        (-0.66, 2, Side(-0.33, "liberal", 2)),
        (0.0, 2, Side(0.0, "mixed", 2)),
        (0.28, 2, Side(0.14, "mixed", 2)),
        (0.5, 2, Side(0.25, "conservative", 2)),
    ],
)
def test_a_side_needs_enough_links_and_a_clear_lean(scores: float, links: int, expected: Side) -> None:
    assert side_of(scores, links, Params.model_validate(values())) == expected


def test_without_a_threshold_an_even_author_is_still_mixed() -> None:
    assert side_of(0.0, 4, Params.model_validate(values(threshold=0))).group == "mixed"


def test_swapping_the_sides_of_all_domains_swaps_the_groups() -> None:
    settings = Params.model_validate(values())
    swap = {"liberal": "conservative", "conservative": "liberal"}
    for scores, links in [(1.32, 2), (-0.5, 3), (0.1, 2), (0.66, 1)]:
        there, back = side_of(scores, links, settings), side_of(-scores, links, settings)
        assert back.group == swap.get(there.group, there.group)


def test_an_authors_links_are_averaged_over_posts() -> None:
    assert evidence(("ann", ["https://cnn.com/a", "https://reuters.com/b"]), ("ann", ["https://nytimes.com/c"])).authors == {"ann": [pytest.approx(-0.99), 3]}


def test_a_page_counts_once_however_often_its_author_shares_it() -> None:
    found = evidence(("ann", ["https://cnn.com/a", "http://www.cnn.com/a/?utm=1"]), ("ann", ["https://cnn.com/a"]), ("bob", ["https://cnn.com/a"]))
    assert found.authors == {"ann": [-0.66, 1], "bob": [-0.66, 1]}
    assert found.shared == {("cnn.com", "scored"): 3}


def test_links_that_are_no_evidence_are_counted_by_kind() -> None:
    links = ["https://t.co/a", "https://bit.ly/b", "https://gazette.example/c", "https://youtube.com/d", "https://theonion.com/e", "http://[f", "http://[g"]
    found = evidence(("ann", links), ("bob", []), (None, ["https://cnn.com/a"]))
    assert found.authors == {}
    assert found.kinds() == {"shortened": 2, "unknown": 1, "ignored": 1, "no side": 1, "no link": 2, "scored": 1}
    assert (found.posts, found.posts_without_links) == (3, 1)


def test_posts_are_written_with_the_side_of_their_author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = [
        {"id": "1", "author": "ann", "text": WORDS, "urls": ["https://cnn.com/a"]},
        {"id": "2", "author": "bob", "text": "Not a soul on our street believes the mayor any longer, me included.", "urls": ["https://foxnews.com/a"]},
        {"id": "3", "author": "ann", "text": "https://cnn.com/b", "urls": []},
        {"id": "4", "author": None, "text": "Somebody without a name wrote this one about the county fair.", "urls": ["https://cnn.com/a"]},
        {"id": "5", "author": "ann", "text": WORDS + "!", "urls": []},
    ]
    rows = told(tmp_path, monkeypatch, posts, "domain,score\ncnn.com,-0.66\nfoxnews.com,0.66\n")
    assert [row["status"] for row in rows] == ["kept", "kept", "short", "kept", "duplicate"]
    assert [(row["group"], row["links"]) for row in rows] == [("liberal", 2), ("unknown", 1), ("liberal", 2), ("unknown", 0), ("liberal", 2)]
    assert [row["lean"] for row in rows] == pytest.approx([-0.66, 0.66, -0.66, None, -0.66])
    assert "ann" not in {row["author"] for row in rows}
    shared = list(csv.DictReader(Path("shared.csv").read_text().splitlines()))
    assert [(row["domain"], row["kind"], row["score"], row["shared"]) for row in shared] == [("cnn.com", "scored", "-0.66", "3"), ("foxnews.com", "scored", "0.66", "1")]


@pytest.mark.parametrize("removed", ["3", short_hash("table:posts.jsonl", "3")], ids=["id of the dump", "our id"])
def test_links_of_a_removed_post_say_nothing_of_its_author(removed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = [
        {"id": "1", "author": "ann", "text": WORDS, "urls": ["https://cnn.com/a"]},
        {"id": "2", "author": "ann", "text": "Not a soul on our street believes the mayor any longer, me included.", "urls": ["https://cnn.com/b"]},
        {"id": "3", "author": "ann", "text": "The county fair was the best one in years, and everybody came.", "urls": [f"https://foxnews.com/{page}" for page in "abcd"]},
    ]
    listed = "domain,score\ncnn.com,-0.66\nfoxnews.com,0.66\n"
    assert [row["group"] for row in told(tmp_path, monkeypatch, posts, listed)] == ["conservative"] * 3
    rows = told(tmp_path, monkeypatch, posts, listed, removed)
    assert [(row["status"], row["group"], row["links"]) for row in rows] == [("kept", "liberal", 2), ("kept", "liberal", 2), ("removed", "unknown", 0)]
    assert "foxnews" not in Path("shared.csv").read_text()


def test_a_corpus_without_any_link_leaves_all_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = told(tmp_path, monkeypatch, [{"id": "1", "author": "ann", "text": WORDS, "urls": []}], "domain,score\ncnn.com,-0.66\n")
    assert [(row["group"], row["lean"], row["links"]) for row in rows] == [("unknown", None, 0)]


def test_doubled_domains_stop_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"domains\.csv: 1 domains are listed more than once: cnn\.com in rows 2, 3"):
        told(tmp_path, monkeypatch, [{"id": "1", "author": "ann", "text": WORDS, "urls": []}], "domain,score\ncnn.com,-0.66\nCNN.com,0\n")
    assert not Path("sided.parquet").exists()


def test_the_sample_is_large_two_sided_and_labelled() -> None:
    posts = [json.loads(line) for line in (SAMPLE / "posts.jsonl").read_text(encoding="utf-8").splitlines()]
    gold = list(csv.DictReader((SAMPLE / "gold.csv").read_text(encoding="utf-8").splitlines()))
    assert len(posts) >= 500
    assert len({post["author"] for post in posts}) >= 100
    assert len({post["id"] for post in posts}) == len(posts)
    assert {row["native_id"] for row in gold} <= {post["id"] for post in posts}
    sides = Counter((row["side"], topic) for row in gold for topic in row["topics"].split())
    topics = {topic for _, topic in sides}
    assert len(topics) == 10
    assert min(sides[side, topic] for side in ("liberal", "conservative") for topic in topics) >= 10
    assert len({label for row in gold for label in row["emotions"].split()}) == 11
    assert len({label for row in gold for label in row["morals"].split()}) == 10


def test_the_sample_shows_every_kind_of_link_and_of_author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = [json.loads(line) for line in (SAMPLE / "posts.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = told(tmp_path, monkeypatch, posts, (ROOT / "data/domains.csv").read_text(encoding="utf-8"), domains={"path": "domains.csv", "ignored": ["youtube.com"]})
    assert {row["kind"] for row in csv.DictReader(Path("shared.csv").read_text().splitlines())} == {"scored", "unknown", "shortened", "ignored"}
    groups = Counter({row["author"]: row["group"] for row in rows}.values())
    assert min(groups["liberal"], groups["conservative"]) >= 50
    assert min(groups["mixed"], groups["unknown"]) >= 5
    assert Counter(row["status"] for row in rows)["duplicate"] == 1
