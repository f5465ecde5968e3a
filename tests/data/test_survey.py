from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stages.core import tables
from stages.core.errors import InputError
from stages.core.params import parse
from stages.data import survey as surveying
from stages.data.survey import clean, schema
from stages.surveys.codebook import Codebook, Question, Survey, load
from stages.surveys.raw import Raw, read

ROOT = Path(__file__).parents[2]
GSS = ROOT / "data/sample/survey/gss2018.csv"


def small(weight: str | None = "w") -> Survey:
    book = parse(
        Codebook,
        {
            "name": "small",
            "title": "Small",
            "source": "tests",
            "respondent": "who",
            "missing": {"negative": True},
            "editions": {"one": {"prefix": "", "weight": weight}},
            "demographics": {"sex": {"variable": "sex", "title": "Sex", "sentence": "$value", "values": {"options": {1: "male", 2: "female"}}}},
            "scales": {"yesno": {"options": {1: "yes", 2: "no"}}},
            "items": {"parks": {"variable": "q1", "topic": "t", "question": "?", "scale": "yesno"}, "roads": {"variable": "q2", "topic": "t", "question": "?", "scale": "yesno"}},
        },
        "book.yaml",
    )
    items = {name: Question(name, item.variable, item.topic, item.question, book.scales[item.scale], False) for name, item in book.items.items()}
    return Survey("small-one", book, "who", weight, book.demographics, items)


def raw(*rows: tuple[str | None, ...]) -> Raw:
    return Raw(Path("x.tab"), {name: [row[i] for row in rows] for i, name in enumerate(("who", "w", "sex", "q1", "q2"))}, 2)


GOOD: list[tuple[str | None, ...]] = [("1", "2", "1", "1", "2"), ("2", "1", "2", "2", "-8"), ("3", "3", "-1", "1", "1")]


def cleaned(*rows: tuple[str | None, ...], allowed: float = 1.0) -> list[dict[str, Any]]:
    return list(clean(raw(*GOOD, *rows), small(), allowed).to_pylist())


# ---- the sample


@pytest.fixture(scope="module")
def gss() -> list[dict[str, Any]]:
    survey = load(ROOT / "prompts/surveys/gss.yaml", "year2018")
    return list(clean(read(GSS, survey.variables), survey, 0.0).to_pylist())


def test_the_sample_keeps_everybody_who_answered_something(gss: list[dict[str, Any]]) -> None:
    assert Counter(row["status"] for row in gss) == {"kept": 2347, "empty": 1}
    assert {row["weight"] for row in gss} == {1.0}
    assert len({row["id"] for row in gss}) == 2348


def test_the_sample_has_the_counts_of_its_source(gss: list[dict[str, Any]]) -> None:
    order = ("too much", "about right", "too little", None)

    def counts(item: str, **only: str) -> tuple[int, ...]:
        found = Counter(row[item] for row in gss if all(row[name] == label for name, label in only.items()))
        return tuple(found[label] for label in order)

    assert counts("environment") == (184, 539, 1553, 72)
    assert counts("energy") == (169, 788, 1277, 114)
    assert counts("environment", party="Democrat")[:3] == (37, 151, 827)
    assert counts("environment", party="independent")[:3] == (22, 99, 273)
    assert counts("environment", party="Republican")[:3] == (113, 264, 382)
    assert Counter(row["sex"] for row in gss) == {"male": 1052, "female": 1296}
    assert sum(row["age"] is None for row in gss) == 7


# ---- marking


def test_answers_and_people_are_told_in_words() -> None:
    first, second, third = cleaned()
    assert (first["sex"], first["parks"], first["roads"]) == ("male", "yes", "no")
    assert (second["sex"], second["parks"], second["roads"]) == ("female", "no", None)
    assert third["sex"] is None
    assert [row["status"] for row in (first, second, third)] == ["kept"] * 3


def test_weights_of_the_kept_average_one() -> None:
    rows = cleaned(("4", "100", "1", None, None))
    assert rows[3]["status"] == "empty"
    assert [row["weight"] for row in rows[:3]] == pytest.approx([1, 0.5, 1.5])


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ((None, "1", "1", "1", "1"), "nameless"),
        (("-9", "1", "1", "1", "1"), "nameless"),
        (("1", "2", "1", "1", "2"), "duplicate"),
        (("4", "1", "1", "7", "1"), "code"),
        (("4", "1", "3", "1", "1"), "code"),
        (("4", "-0.5", "1", "1", "1"), "unweighted"),
        (("4", "0", "1", "1", "1"), "unweighted"),
        (("4", None, "1", "1", "1"), "unweighted"),
        (("4", "heavy", "1", "1", "1"), "weight"),
        (("4", "1", "1", "-9", None), "empty"),
    ],
)
def test_each_row_is_marked_with_the_first_reason_against_it(row: tuple[str | None, ...], status: str) -> None:
    assert [found["status"] for found in cleaned(row)] == ["kept", "kept", "kept", status]


def test_a_negative_weight_that_is_no_missing_code_is_broken() -> None:
    survey = small()
    book = survey.codebook.model_copy(update={"missing": survey.codebook.missing.model_copy(update={"negative": False})})
    rows = [("1", "1", "1", "1", "1"), ("2", "-1", "1", "2", "1")]
    table = clean(raw(*rows), Survey("s", book, "who", "w", survey.demographics, survey.items), 1.0)
    assert table.column("status").to_pylist() == ["kept", "weight"]


def test_somebody_with_two_sets_of_answers_is_in_conflict_both_times() -> None:
    assert [row["status"] for row in cleaned(("1", "2", "1", "2", "2"))] == ["conflict", "kept", "kept", "conflict"]


def test_ids_tell_surveys_apart_and_hide_the_original() -> None:
    one, other = clean(raw(*GOOD), small(), 1.0), clean(raw(*GOOD), Survey("other", *[getattr(small(), key) for key in list(Survey.__dataclass_fields__)[1:]]), 1.0)
    assert not set(one.column("id").to_pylist()) & set(other.column("id").to_pylist())
    assert "1" not in one.column("id").to_pylist()


# ---- refusing


def test_too_many_undeclared_codes_stop_with_their_counts_and_places() -> None:
    with pytest.raises(InputError) as error:
        cleaned(("4", "1", "1", "3", "1"), ("5", "1", "1", "3", "1"), allowed=0.1)
    message = str(error.value)
    assert "x.tab: 2 of 5 rows are unusable, more than survey.max_unusable = 0.1 allows" in message
    assert "x.tab: row 5: field q1: code 3 is not declared (2 rows)" in message
    assert "Declare such codes in the codebook" in message


def test_too_many_conflicts_stop_with_the_respondent() -> None:
    with pytest.raises(InputError, match=r"row 2: field who: 1 \(2 rows: conflict\)"):
        cleaned(("1", "2", "1", "2", "2"), allowed=0.1)


def test_weights_that_are_all_zero_stop() -> None:
    with pytest.raises(InputError, match=r"(?s)none of 2 rows can be kept: \{'unweighted': 2\}.*row 2: field w: 0 \(2 rows: unweighted\)"):
        clean(raw(("1", "0", "1", "1", "1"), ("2", "0", "2", "2", "2")), small(), 1.0)


def test_a_weight_that_the_file_lacks_stops(tmp_path: Path) -> None:
    (tmp_path / "x.tab").write_text("who\tsex\tq1\tq2\n1\t1\t1\t1\n")
    with pytest.raises(InputError, match="variables that the file lacks: w"):
        read(tmp_path / "x.tab", small().variables)


@pytest.mark.parametrize(("column", "told"), [(3, r"q1 \(parks\)"), (2, r"sex \(sex\)")])
def test_a_column_without_any_answer_stops(column: int, told: str) -> None:
    rows = [(*row[:column], "-8", *row[column + 1 :]) for row in GOOD]
    with pytest.raises(InputError, match=rf"x\.tab: nobody has an answer in: {told}\. Was it asked in this edition\?"):
        clean(raw(*rows), small(), 1.0)


def test_a_demographic_made_of_answers_stops() -> None:
    rows = [(str(i), "1", str(1 + i % 2), str(1 + i % 2), str(1 + (i // 2) % 2)) for i in range(40)]
    with pytest.raises(InputError, match=r"answers explain more than 90% of a demographic: sex \(100%\).*under `leaks`"):
        clean(raw(*rows), small(), 1.0)


def test_the_stage_writes_the_respondents_of_the_default_survey(tmp_path: Path, in_root: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "params.yaml").write_text(f"survey:\n  file: {GSS}\n  codebook: prompts/surveys/gss.yaml\n  edition: year2018\n  max_unusable: 0.01\n")
    monkeypatch.chdir(tmp_path)
    book = ROOT / "prompts/surveys/gss.yaml"
    surveying.main(GSS, book, tmp_path / "respondents.parquet")
    assert len(tables.read(tmp_path / "respondents.parquet", schema(load(book, "year2018")))) == 2348
    assert "survey gss-year2018: 2348 respondents, 2347 kept, 1 empty" in capsys.readouterr().err
