from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.corpora.domains import Domains, Table, host_of, load, page_of

KNOWN = Domains({"foxnews.com": 0.66, "go.com": 0.0, "abcnews.go.com": -0.33, "cato.org": 0.33, "cato.org/regulation": 0.5, "theonion.com": None}, frozenset({"youtube.com"}))


def table(folder: Path, text: str) -> Path:
    path = folder / "domains.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "url",
    [
        "https://www.foxnews.com/opinion/a-piece",
        "http://foxnews.com",
        "HTTPS://WWW.FoxNews.com:443/x?utm_source=share#top",
        "https://video.foxnews.com/v/123",
        "foxnews.com/us",
        " https://www.foxnews.com./ ",
    ],
)
def test_a_link_to_a_listed_domain_is_evidence(url: str) -> None:
    link = KNOWN.rate(url)
    assert (link.domain, link.kind, link.score) == ("foxnews.com", "scored", 0.66)


@pytest.mark.parametrize(
    ("url", "domain", "kind"),
    [
        ("https://t.co/AbCdEfGhIj", "t.co", "shortened"),
        ("https://bit.ly/3xyz", "bit.ly", "shortened"),
        ("https://m.youtube.com/watch?v=abc", "youtube.com", "ignored"),
        ("https://www.theonion.com/x", "theonion.com", "no side"),
        ("https://millbrookgazette.example/2022/story", "millbrookgazette.example", "unknown"),
        ("https://notfoxnews.com/", "notfoxnews.com", "unknown"),
        ("https://foxnews.com.example/", "foxnews.com.example", "unknown"),
        ("https://", "", "no link"),
        ("http://[broken", "", "no link"),
        ("localhost", "", "no link"),
        ("see the article", "", "no link"),
    ],
)
def test_other_links_are_no_evidence_and_say_why(url: str, domain: str, kind: str) -> None:
    link = KNOWN.rate(url)
    assert (link.domain, link.kind, link.score) == (domain, kind, None)


def test_a_listed_subdomain_or_section_has_its_own_score() -> None:
    assert KNOWN.rate("https://abcnews.go.com/Politics/x").score == -0.33
    assert KNOWN.rate("https://espn.go.com/x").score == 0.0
    assert KNOWN.rate("https://www.cato.org/regulation/summer-2022").score == 0.5
    assert KNOWN.rate("https://www.cato.org/regulations").score == 0.33


def test_links_to_one_page_are_recognised() -> None:
    same = ["https://www.foxnews.com/us/a", "http://foxnews.com/us/a/", "https://foxnews.com/us/a?utm_source=share", "https://foxnews.com/us/a#top"]
    assert {page_of(url) for url in same} == {"foxnews.com/us/a"}
    assert page_of("https://foxnews.com/us/b") == "foxnews.com/us/b"
    assert page_of("nothing") == host_of("nothing") == ""


def test_a_table_of_numbers_is_read(tmp_path: Path) -> None:
    path = table(tmp_path, "domain,score,source\nwww.NYTimes.com,-0.33,x\nreuters.com,0,x\n")
    found = load(path, Table(path=path, ignored=("medium.com",)))
    assert found == Domains({"nytimes.com": -0.33, "reuters.com": 0.0}, frozenset({"medium.com"}))


def test_a_table_of_categories_is_read_with_their_scores(tmp_path: Path) -> None:
    path = table(tmp_path, "site,bias\nnytimes.com,leftcenter\ntheonion.com,satire\n")
    found = load(path, Table(path=path, domain="site", score="bias", categories={"leftcenter": -0.33, "satire": None}))
    assert found.scores == {"nytimes.com": -0.33, "theonion.com": None}


def test_all_doubled_rows_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, "domain,score\na.com,1\nb.com,0\nwww.a.com,-1\nc.com,0\nB.com,0\na.com,1\n")
    with pytest.raises(InputError, match=r"domains\.csv: 2 domains are listed more than once: a\.com in rows 2, 4, 7; b\.com in rows 3, 6\. Keep one row of each\."):
        load(path, Table(path=path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("domain,bias\na.com,1\n", r"column score is missing\. The file has: domain, bias\. Set discourse\.domains"),
        ("domain,score\na.com,left\n", r"row 2: field score: 'left' is neither a number nor a category .*there is none"),
        ("domain,score\na.com,0\nb.com,7\n", r"row 3: field score: 7 is not from -1 to 1"),
        ("domain,score\na.com,0\nb.com,nan\n", r"row 3: field score: nan is not from -1 to 1"),
        ("domain,score\na.com,0\nno domain,1\n", r"row 3: field domain: 'no domain' is no domain"),
        ("domain,score\n", "no domain has a score"),
    ],
)
def test_a_table_that_cannot_be_used_says_where_and_why(tmp_path: Path, text: str, problem: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(InputError, match=problem):
        load(path, Table(path=path))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv: is not readable"):
        load(tmp_path / "nowhere.csv", Table(path=tmp_path / "nowhere.csv"))


def test_the_projects_own_table_is_usable_and_names_its_sources(in_root: None) -> None:
    path = Path("data/domains.csv")
    found = load(path, Table(path=path))
    outlets = {row.split(",")[1] for row in path.read_text(encoding="utf-8").splitlines()[1:]}
    assert len(outlets) >= 150
    assert all(row.split(",")[3] and row.split(",")[4].isdigit() for row in path.read_text(encoding="utf-8").splitlines()[1:])
    assert set(found.scores.values()) == {-1, -0.5, 0, 0.5, 1}
    assert found.rate("https://nyti.ms/3x").score == found.rate("https://www.nytimes.com/").score
    sides = [score for score in found.scores.values() if score is not None]
    assert sum(score < 0 for score in sides) > 50
    assert sum(score > 0 for score in sides) > 50
