import copy
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.core.errors import InputError
from stages.core.params import parse
from stages.surveys.codebook import Codebook, load

ROOT = Path(__file__).parents[2]
EDITIONS = [("gss", "year2018"), ("ukhls", "wave1"), ("ukhls", "wave4"), ("ukhls", "wave10")]
BOOK: dict[str, Any] = {
    "name": "small",
    "title": "Small survey",
    "source": "made for tests",
    "respondent": "who",
    "missing": {"negative": True, "codes": [99]},
    "leaks": {"total": "sum of all answers"},
    "editions": {"one": {"prefix": "a_", "weight": "w"}, "two": {"prefix": "b_", "weight": None}},
    "demographics": {
        "sex": {"variable": "sex", "title": "Sex", "sentence": "$I $am $value.", "phrases": {"male": "a man"}, "values": {"options": {1: "male", 2: "female"}}},
        "age": {"variable": "age", "title": "Age", "sentence": "$I $am $number.", "values": {"bands": {"young": 16, "old": 40}, "top": 100}},
    },
    "scales": {"yesno": {"options": {1: "yes", 2: "no"}}},
    "items": {
        "parks": {"variable": "q1", "topic": "places", "question": "More parks?", "scale": "yesno"},
        "roads": {"variable": "q2", "topic": "places", "question": "More roads?", "scale": "yesno", "editions": ["two"]},
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    book = copy.deepcopy(BOOK)
    inner = book
    *parents, last = path.split(".")
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return book


def written(folder: Path, book: dict[str, Any]) -> Path:
    YAML().dump(book, folder / "book.yaml")
    return folder / "book.yaml"


@pytest.mark.parametrize(("name", "edition"), EDITIONS)
def test_the_codebooks_that_come_along_are_sound(name: str, edition: str) -> None:
    survey = load(ROOT / f"prompts/surveys/{name}.yaml", edition)
    trained = [item for item in survey.items.values() if not item.held_out]
    assert len(trained) > len(survey.items) - len(trained) > 0
    assert len({item.question for item in survey.items.values()}) == len(survey.items)
    assert {"age", "sex", "education", "place"} <= set(survey.demographics)


@pytest.mark.parametrize(("name", "edition"), EDITIONS)
def test_no_question_names_its_options(name: str, edition: str) -> None:
    for item in load(ROOT / f"prompts/surveys/{name}.yaml", edition).items.values():
        assert not [label for label in item.scale.labels if f" {label.lower()} " in f" {item.question.lower().rstrip('?')} " and label != "agree"]


def test_the_waves_share_their_demographics_and_differ_in_items_and_weights() -> None:
    waves = [load(ROOT / "prompts/surveys/ukhls.yaml", f"wave{n}") for n in (1, 4, 10)]
    assert [survey.weight for survey in waves] == ["a_indscus_xw", "d_indscub_xw", "j_indscui_xw"]
    assert [survey.demographics["age"].variable for survey in waves] == ["a_age_dv", "d_age_dv", "j_age_dv"]
    assert waves[1].items.keys() == waves[2].items.keys()
    assert "d_scenv_bccc" in waves[1].variables
    assert "j_scenv_bccc" in waves[2].variables
    assert {"a_scenv_pmre", "a_scopecl30", "a_envhabit11"} <= set(waves[0].variables)
    assert not [variable for variable in waves[0].variables if "scenv_bccc" in variable]


def test_an_edition_has_its_prefix_weight_and_items(tmp_path: Path) -> None:
    path = written(tmp_path, BOOK)
    one, two = load(path, "one"), load(path, "two")
    assert (one.name, one.respondent, one.weight, list(one.items)) == ("small-one", "who", "a_w", ["parks"])
    assert one.variables == ("who", "a_w", "a_sex", "a_age", "a_q1")
    assert (two.weight, list(two.items)) == (None, ["parks", "roads"])
    assert two.variables == ("who", "b_sex", "b_age", "b_q1", "b_q2")
    assert one.numbers == ("age",)


def test_another_edition_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"book\.yaml: there is no edition 'three'\. Set survey\.edition to one of: one, two\."):
        load(written(tmp_path, BOOK), "three")


def test_an_edition_without_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no item is asked in the edition 'one'"):
        load(written(tmp_path, changed("items.parks.editions", ["two"])), "one")


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("items.parks.scale", "maybe", "items.parks.scale: there is no scale 'maybe', only yesno"),
        ("items.parks.editions", ["three"], "there is no edition 'three'"),
        ("items.parks.colour", "green", "items.parks.colour: Extra inputs"),
        ("items.sex", BOOK["items"]["parks"], "sex: names are lower-case, differ"),
        ("items.age_number", BOOK["items"]["parks"], "age_number: names are lower-case, differ"),
        ("items.weight", BOOK["items"]["parks"], "weight: names are lower-case, differ"),
        ("demographics.sex.variable", "total", r"demographics.sex.variable: total leaks answers \(sum of all answers\); use another"),
        ("demographics.sex.variable", "q1", "demographics.sex.variable: q1 is an item's answer"),
        ("scales.yesno.options", {-1: "yes", 1: "no"}, "scales.yesno.options: code -1 counts as missing everywhere"),
        ("demographics.sex.values.options", {99: "male", 1: "female"}, "code 99 counts as missing everywhere"),
        ("demographics.sex.sentence", "$I $am $colour.", "sentence: only "),
        ("demographics.sex.sentence", "$I $am $number.", r"sentence: \$number needs bands"),
        ("demographics.sex.phrases", {"boy": "a boy"}, "phrases: boy is none of the labels"),
        ("editions.one", {"prefix": ""}, "editions.one.weight: Field required"),
        ("items", {}, "items: Dictionary should have at least 1 item"),
    ],
)
def test_a_codebook_with_a_mistake_is_refused_with_its_place(path: str, value: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse(Codebook, changed(path, value), "book.yaml")


def test_all_mistakes_are_told_together() -> None:
    book = changed("items.parks.scale", "maybe")
    book["items"]["roads"]["scale"] = "perhaps"
    with pytest.raises(InputError, match=r"(?s)no scale 'maybe'.*no scale 'perhaps'"):
        parse(Codebook, book, "book.yaml")


def test_missing_is_what_the_codebook_says() -> None:
    book = parse(Codebook, BOOK, "book.yaml")
    assert [book.is_missing(cell) for cell in (None, "-9", "-1", "-0.5", "99", "0", "1", "no")] == [True, True, True, True, True, False, False, False]
