from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.corpora.issues import Issue, issue_of, load, pattern

COVID = Issue.model_validate(
    {
        "name": "COVID-19",
        "phrases": ["covid*", "mask*", "vaccin*", "lab leak"],
        "marking": ["jab"],
        "topics": {"masking": {"name": "masks", "phrases": ["mask*"], "marking": ["muzzle"]}, "vaccines": {"name": "vaccines", "phrases": ["vaccin*"]}},
    }
)
ABORTION = Issue.model_validate(
    {"name": "abortion", "phrases": ["abort*", "roe", "pro life"], "topics": {"religion": {"name": "religion", "phrases": ["church*"]}}},
)
ISSUES = {"covid": COVID, "abortion": ABORTION}


@pytest.mark.parametrize("text", ["Lab leak!", "the lab-leak story", "#LabLeak2021 no, #LabLeak", "lab  leak", "LAB\nLEAK", "(lab leak)"])
def test_a_phrase_is_found_however_its_words_are_joined(text: str) -> None:
    assert pattern(["lab leak"]).search(text)


@pytest.mark.parametrize(("phrase", "text"), [("lab leak", "labs leak"), ("mask", "masks"), ("roe", "heroes"), ("roe", "Roebuck"), ("vaccin*", "revaccination")])
def test_only_whole_words_are_found(phrase: str, text: str) -> None:
    assert not pattern([phrase]).search(text)


def test_a_star_stands_for_any_ending() -> None:
    assert [word for word in ("vaccine", "vaccinated", "vaccin") if pattern(["vaccin*"]).search(word)] == ["vaccine", "vaccinated", "vaccin"]


@pytest.mark.parametrize("text", ["women's health", "women’s health", "womens health"])
def test_apostrophes_may_be_of_any_kind_or_missing(text: str) -> None:
    assert pattern(["women's health"]).search(text)


def test_no_phrases_find_nothing() -> None:
    assert not pattern([]).search("anything")


def test_a_post_can_have_several_topics_in_the_order_of_the_file() -> None:
    assert COVID.topics_of("Vaccinated? Mask up.") == ["masking", "vaccines"]
    assert COVID.topics_of("wear the muzzle") == ["masking"]
    assert COVID.topics_of("wear the muzzle", widened=False) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("masks again", "covid"),
        ("the church is open", None),
        ("Roe is gone, and abortion with it; they wore masks", "abortion"),
        ("mask up, Roe", None),
        ("masks, masks, masks, and an abortion after Roe", "abortion"),
        ("puppies arrived at five", None),
    ],
)
def test_the_issue_with_more_phrases_wins_and_a_tie_decides_nothing(text: str, expected: str | None) -> None:
    assert issue_of(text, ISSUES) == expected


def test_marking_terms_count_for_the_issue_unless_left_out() -> None:
    assert issue_of("got the jab", ISSUES) == "covid"
    assert issue_of("got the jab", ISSUES, widened=False) is None


def test_files_are_read_and_mistakes_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: A\nphrases: [x]\ntopics: {t: {name: T, phrases: [x y, z*]}}\n")
    assert load(tmp_path, ["a"])["a"].topics["t"].name == "T"
    (tmp_path / "a.yaml").write_text("name: A\nphrases: [x, x]\ntopics: {t: {name: T, phrases: ['*a'], kind: 1}}\n")
    with pytest.raises(InputError, match=r"(?s)a\.yaml\.phrases: .*listed twice: x.*topics\.t\.phrases: .*'\*a' is no phrase.*topics\.t\.kind"):
        load(tmp_path, ["a"])
    with pytest.raises(InputError, match=r"b\.yaml: there is no such file"):
        load(tmp_path, ["b"])
    with pytest.raises(InputError, match=r"topics\.issues is empty"):
        load(tmp_path, [])


def test_the_projects_issues_have_five_topics_each(in_root: None) -> None:
    assert {name: len(issue.topics) for name, issue in load(Path("prompts/topics"), ["covid", "abortion"]).items()} == {"covid": 5, "abortion": 5}
