import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.core import tables
from stages.core.errors import InputError
from stages.corpora.issues import Issue
from stages.data.topics import Params, Term, assign, main, suggest

COVID = {
    "name": "COVID-19",
    "phrases": ["covid*", "mask*", "vaccin*"],
    "topics": {"masking": {"name": "masks", "phrases": ["mask*"], "marking": ["fogged"]}, "vaccines": {"name": "vaccines", "phrases": ["vaccin*"]}},
}
ABORTION = {"name": "abortion", "phrases": ["abort*", "roe"], "topics": {"religion": {"name": "religion", "phrases": ["church*"]}}}
ISSUES = {"covid": Issue.model_validate(COVID), "abortion": Issue.model_validate(ABORTION)}
SETTINGS = Params(issues=("covid", "abortion"), suggestions=10, min_posts=3, min_z=1.0, prior=50)
MASKS = [f"my glasses are fogged under the mask again, day {word} of covid" for word in ("one", "two", "three", "four", "five")]
SHOTS = [f"sore arm after the covid vaccine, says {word}" for word in ("ann", "bob", "cat", "dan", "eve")]
ROE = [f"after Roe our church prays for {word}" for word in ("ann", "bob", "cat", "dan", "eve")]


def folder(path: Path, settings: dict[str, object] | None = None) -> None:
    (path / "prompts").mkdir()
    for name, issue in (("covid", COVID), ("abortion", ABORTION)):
        YAML().dump(issue, path / "prompts" / f"{name}.yaml")
    YAML().dump({"topics": SETTINGS.model_dump(mode="json") | (settings or {})}, path / "params.yaml")


def posts(path: Path, texts: Sequence[str], statuses: Sequence[str]) -> None:
    rows = [
        {"id": str(i), "source": "s", "author": "a", "created_at": None, "text": text, "status": status, "lean": None, "group": "unknown", "links": 0}
        for i, (text, status) in enumerate(zip(texts, statuses, strict=True))
    ]
    tables.write(path, rows, tables.SIDED)


def test_posts_get_their_issue_and_its_topics_alone() -> None:
    texts = ["Vaccinated and masked", "Roe fell and the church sang", "covid closed our church", "puppies"]
    assert assign(texts, ISSUES) == [("covid", ["masking", "vaccines"]), ("abortion", ["religion"]), ("covid", []), (None, [])]


def test_marking_terms_widen_a_topic_unless_left_out() -> None:
    assert assign(["covid, and my glasses fogged"], ISSUES) == [("covid", ["masking"])]
    assert assign(["covid, and my glasses fogged"], ISSUES, widened=False) == [("covid", [])]


def test_terms_that_mark_a_topic_are_suggested_with_their_counts() -> None:
    terms = {(term.topic, term.term): term for term in suggest([*MASKS, *SHOTS, *ROE], ISSUES, SETTINGS) if term.issue == "covid"}
    glasses = terms["masking", "glasses"]
    assert (glasses.inside, glasses.outside, glasses.accepted) == (5, 0, False)
    assert terms["masking", "fogged"].accepted
    assert terms["vaccines", "sore arm"].inside == 5
    assert ("vaccines", "glasses") not in terms


def test_neither_what_the_phrases_find_nor_stop_words_nor_rare_terms_are_suggested() -> None:
    found = {term.term for term in suggest([*MASKS, *SHOTS, *ROE], ISSUES, SETTINGS) if term.topic == "masking"}
    assert "mask" not in found
    assert "my glasses" not in found
    assert not {"one", "two", "three"} & found


def test_an_issue_is_marked_against_all_other_posts() -> None:
    found = {term.term: term for term in suggest([*MASKS, *SHOTS, *ROE], ISSUES, SETTINGS) if (term.issue, term.topic) == ("abortion", "")}
    assert (found["church"].inside, found["church"].outside) == (5, 0)


def test_the_strongest_terms_come_first_up_to_the_limit() -> None:
    settings = SETTINGS.model_copy(update={"suggestions": 2})
    masking: list[Term] = [term for term in suggest([*MASKS, *SHOTS, *ROE], ISSUES, settings) if term.topic == "masking"]
    assert len(masking) == 2
    assert masking[0].z >= masking[1].z


@pytest.mark.parametrize("texts", [[], ["covid"], ["covid mask", "vaccine covid"]])
def test_a_small_corpus_suggests_nothing(texts: list[str]) -> None:
    assert suggest(texts, ISSUES, SETTINGS) == []


def test_all_rows_stay_and_only_kept_ones_get_topics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path)
    texts = [*MASKS, *SHOTS, "covid masks", "a post about nothing much"]
    posts(Path("sided.parquet"), texts, [*["kept"] * 10, "duplicate", "kept"])
    main(Path("sided.parquet"), Path("prompts"), Path("posts.parquet"), Path("terms.csv"))
    rows = tables.read(Path("posts.parquet"), tables.DISCOURSE).to_pylist()
    assert [row["text"] for row in rows] == texts
    assert [(row["issue"], row["topics"]) for row in rows[9:]] == [("covid", ["vaccines"]), (None, []), (None, [])]
    terms = list(csv.DictReader(Path("terms.csv").read_text().splitlines()))
    assert {"issue": "covid", "topic": "masking", "term": "fogged", "posts": "5", "other_posts": "0", "accepted": "yes"}.items() <= next(
        row for row in terms if (row["topic"], row["term"]) == ("masking", "fogged")
    ).items()


def test_a_corpus_on_other_things_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path)
    posts(Path("sided.parquet"), ["puppies arrived at five"], ["kept"])
    with pytest.raises(InputError, match=r"sided\.parquet: none of 1 posts is on a topic of covid, abortion\. Give other posts, or phrases that fit"):
        main(Path("sided.parquet"), Path("prompts"), Path("posts.parquet"), Path("terms.csv"))
    assert not Path("posts.parquet").exists()
