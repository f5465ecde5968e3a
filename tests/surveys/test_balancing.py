import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import InputError
from stages.surveys.balancing import Balance, goals, synthesize
from stages.surveys.codebook import Survey, load

ROOT = Path(__file__).parents[2]
SETTINGS = Balance(active=True, by="race", to=0.5, neighbours=5)


@pytest.fixture(scope="module")
def survey() -> Survey:
    return load(ROOT / "prompts/surveys/gss.yaml", "year2018")


def people(survey: Survey, **races: int) -> list[dict[str, Any]]:
    draw = random.Random(1)
    rows = []
    for race, n in races.items():
        for _ in range(n):
            age = float(draw.randint(18, 89))
            row: dict[str, Any] = {name: draw.choice(known.values.labels) for name, known in survey.demographics.items()}
            row |= {name: draw.choice([*item.scale.labels, None]) for name, item in survey.items.items()}
            rows.append(row | {"race": race, "age_number": age, "age": survey.numeric("age", age), "id": f"r{len(rows)}", "weight": 2.0 if race == "Black" else 1.0})
    return rows


def test_smaller_groups_grow_to_the_set_share_of_the_largest() -> None:
    assert goals(["a"] * 100 + ["b"] * 20 + ["c"] * 60 + ["d"] * 5 + [None], SETTINGS) == {"b": 50}


def test_a_rare_group_is_filled_up_with_sound_respondents(survey: Survey) -> None:
    rows = people(survey, white=60, Black=12, other=4)
    found = synthesize(rows, survey, SETTINGS, seed=1)
    assert Counter(row["race"] for row in found) == {"Black": 18}
    ages = [row["age_number"] for row in rows if row["race"] == "Black"]
    for row in found:
        assert row["synthetic"]
        assert row["weight"] == 2.0
        assert min(ages) <= row["age_number"] <= max(ages)
        assert row["age"] == survey.numeric("age", row["age_number"])
        for name, item in survey.items.items():
            assert row[name] is None or row[name] in item.scale.labels
        assert all(row[name] is None or row[name] in known.values.labels for name, known in survey.demographics.items())
    assert len({row["id"] for row in found}) == 18


def test_balancing_by_a_band_stays_within_it(survey: Survey) -> None:
    rows = [row for row in people(survey, white=200) if row["age"] != "75 or older" or int(row["id"][1:]) % 4 == 0]
    found = synthesize(rows, survey, Balance(active=True, by="age", to=0.9, neighbours=2), seed=1)
    assert found
    assert all(row["age"] == survey.numeric("age", row["age_number"]) for row in found)


def test_one_seed_gives_the_same_respondents(survey: Survey) -> None:
    rows = people(survey, white=40, Black=10)
    assert synthesize(rows, survey, SETTINGS, 1) == synthesize(rows, survey, SETTINGS, 1)
    assert synthesize(rows, survey, SETTINGS, 1) != synthesize(rows, survey, SETTINGS, 2)


def test_who_has_no_group_or_number_takes_no_part(survey: Survey) -> None:
    rows = people(survey, white=40, Black=10)
    strangers = [row | {"race": None} for row in people(survey, white=5)] + [row | {"age": None, "age_number": None} for row in people(survey, Black=5)]
    assert synthesize([*rows, *strangers], survey, SETTINGS, 1) == synthesize(rows, survey, SETTINGS, 1)


def test_balanced_groups_need_nobody(survey: Survey) -> None:
    assert synthesize(people(survey, white=20, Black=20), survey, SETTINGS, 1) == []


def test_an_unknown_demographic_is_refused_with_those_that_there_are(survey: Survey) -> None:
    with pytest.raises(InputError, match=r"interview\.balance\.by: gss-year2018 has no 'ethnicity', only age, sex, race"):
        synthesize([], survey, Balance(active=True, by="ethnicity", to=0.5, neighbours=5), 1)
