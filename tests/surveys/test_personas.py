from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.core.params import parse
from stages.surveys.codebook import load as load_codebook
from stages.surveys.personas import Wordings, load

ROOT = Path(__file__).parents[2]
SURVEY = load_codebook(ROOT / "prompts/surveys/gss.yaml", "year2018")
WORDINGS = load(ROOT / "prompts/interview.yaml")
ANN = {"age": "30 to 44", "age_number": 43.0, "sex": "female", "race": None, "education": "bachelor", "party": "Democrat", "ideology": None, "work": "retired", "place": None}


def test_a_respondent_is_put_into_several_words() -> None:
    assert WORDINGS.personas(ANN, SURVEY.demographics, 3) == [
        ("form", "Age: 30 to 44\nSex: female\nHighest degree: bachelor\nParty: Democrat\nWork: retired"),
        ("first", "I am 43 years old. I am a woman. My highest degree is a bachelor's degree. In politics, I am closer to the Democrats. At present I am retired."),
        ("second", "You are 43 years old. You are a woman. Your highest degree is a bachelor's degree. In politics, you are closer to the Democrats. At present you are retired."),
    ]


def test_what_is_not_to_be_stated_is_in_no_wording() -> None:
    stated = {name: known for name, known in SURVEY.demographics.items() if name != "party"}
    told = " ".join(text for _, text in WORDINGS.personas(ANN, stated, 3))
    assert "Democrat" not in told
    assert "woman" in told


def test_somebody_unknown_is_a_member_of_the_public() -> None:
    assert WORDINGS.personas(dict.fromkeys(ANN), SURVEY.demographics, 1) == [("form", "A member of the public.")]


@pytest.mark.parametrize(("book", "edition"), [("gss", "year2018"), ("ukhls", "wave10")])
def test_every_label_can_be_said_in_every_wording(book: str, edition: str) -> None:
    for name, known in load_codebook(ROOT / f"prompts/surveys/{book}.yaml", edition).demographics.items():
        for label in known.values.labels:
            for _, text in WORDINGS.personas({name: label, f"{name}_number": 50.0}, {name: known}, 3):
                assert known.phrases.get(label, label) in text or label in text or "50" in text
                assert "$" not in text
                assert "  " not in text


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"attribute": "$colour"}, "attribute: only"), ({"text": "$sentence"}, "text: only"), ({"words": {"I": "I"}}, "words: must give I, am, My and my")],
)
def test_a_wording_that_cannot_be_filled_in_is_refused(changes: dict[str, object], problem: str) -> None:
    wording = WORDINGS.wordings[0].model_dump() | changes
    with pytest.raises(InputError, match=problem):
        parse(Wordings, {"wordings": [wording], "unknown": "?"}, "prompts/interview.yaml")
