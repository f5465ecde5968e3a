import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import InputError
from stages.data.interview import Params, choose_items, divide, is_held_out, options_in_order
from stages.data.survey import clean
from stages.surveys import personas
from stages.surveys.codebook import Survey, load
from stages.surveys.raw import read

ROOT = Path(__file__).parents[2]
WORDINGS = personas.load(ROOT / "prompts/interview.yaml")
Rows = list[dict[str, Any]]


def settings(**changes: Any) -> Params:
    values = {
        "topics": ["environment"],
        "held_out_items": "codebook",
        "held_out_respondents": 0.25,
        "wordings": 3,
        "orders": "all",
        "train_variants": 1,
        "test_variants": 2,
        "unstated": [],
        "balance": {"active": False, "by": "race", "to": 0.5, "neighbours": 5},
        "seed": 1,
    }
    return Params.model_validate(values | changes)


@pytest.fixture(scope="module")
def survey() -> Survey:
    return load(ROOT / "prompts/surveys/gss.yaml", "year2018")


@pytest.fixture(scope="module")
def respondents(survey: Survey) -> Rows:
    return list(clean(read(ROOT / "data/sample/survey/gss2018.csv", survey.variables), survey, 0.0).slice(0, 400).to_pylist())


@pytest.fixture(scope="module")
def splits(survey: Survey, respondents: Rows) -> dict[str, Rows]:
    return dict(divide(respondents, survey, WORDINGS, settings()))


def test_no_respondent_is_on_both_sides(splits: dict[str, Rows]) -> None:
    train, test = ({row["respondent"] for name in names for row in splits[name]} for names in (["train"], ["respondents", "items"]))
    assert not train & test
    assert 0.18 < len(test) / len(train | test) < 0.32


def test_items_held_out_are_asked_in_their_own_split_only(splits: dict[str, Rows]) -> None:
    items = {name: {row["item"] for row in rows} for name, rows in splits.items()}
    assert items == {"train": {"environment", "parks", "transit"}, "respondents": {"environment", "parks", "transit"}, "items": {"energy"}}
    assert all(row["split"] == name for name, rows in splits.items() for row in rows)


def test_every_answer_is_the_one_that_the_respondent_gave(splits: dict[str, Rows], respondents: Rows, survey: Survey) -> None:
    given = {row["id"]: row for row in respondents}
    for rows in splits.values():
        for row in rows:
            scale = survey.items[row["item"]].scale
            assert row["options"][row["answer"]] == given[row["respondent"]][row["item"]]
            assert [scale.labels[place] for place in row["order"]] == row["options"]
            assert row["question"] == survey.items[row["item"]].question
            assert row["party"] == given[row["respondent"]]["party"]


def test_every_answer_is_used_once_for_each_variant(splits: dict[str, Rows], respondents: Rows) -> None:
    answered = sum(row["status"] == "kept" and row["energy"] is not None and is_held_out(row["id"], settings()) for row in respondents)
    assert len(splits["items"]) == 2 * answered
    assert len({row["id"] for rows in splits.values() for row in rows}) == sum(map(len, splits.values()))


def test_variants_come_in_pairs_of_opposite_orders(splits: dict[str, Rows]) -> None:
    rows = splits["items"]
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        assert (one["respondent"], one["item"]) == (other["respondent"], other["item"])
        assert one["options"] == other["options"][::-1]
        assert one["wording"] != other["wording"]


def test_every_order_and_wording_occurs_about_equally_often(splits: dict[str, Rows]) -> None:
    n = len(splits["train"])
    orders = Counter(tuple(row["order"]) for row in splits["train"])
    assert len(orders) == 6
    assert all(abs(times / n - 1 / 6) < 0.05 for times in orders.values())
    wordings = Counter(row["wording"] for row in splits["train"])
    assert len(wordings) == 3
    assert all(abs(times / n - 1 / 3) < 0.05 for times in wordings.values())


def test_more_variants_keep_those_that_there_were(survey: Survey) -> None:
    item = survey.items["parks"]
    assert options_in_order(item, "k", 0, settings()) == options_in_order(item, "k", 0, settings())
    assert {tuple(options_in_order(item, "k", variant, settings())) for variant in range(40)} == {tuple(p) for p in itertools.permutations(range(3))}


def test_options_can_be_shown_along_the_scale_and_against_it_alone(survey: Survey) -> None:
    both = settings(orders="both")
    shown = [tuple(options_in_order(survey.items["parks"], str(key), variant, both)) for key in range(200) for variant in range(2)]
    assert set(shown) == {(0, 1, 2), (2, 1, 0)}
    assert all(one == other[::-1] for one, other in zip(shown[::2], shown[1::2], strict=True))
    assert 0.4 < shown[::2].count((0, 1, 2)) / 200 < 0.6


def test_one_more_respondent_moves_nobody(survey: Survey, respondents: Rows, splits: dict[str, Rows]) -> None:
    fewer = divide(respondents[:300], survey, WORDINGS, settings())
    kept = {row["id"] for row in respondents[:300]}
    for name, rows in splits.items():
        assert fewer[name] == [row for row in rows if row["respondent"] in kept]


def test_rows_that_are_not_kept_are_not_asked(survey: Survey, respondents: Rows) -> None:
    marked = [row | {"status": "duplicate"} if i % 2 else row for i, row in enumerate(respondents)]
    asked = {row["respondent"] for rows in divide(marked, survey, WORDINGS, settings()).values() for row in rows}
    assert asked
    assert not asked & {row["id"] for row in marked if row["status"] == "duplicate"}


def test_an_attribute_that_is_not_stated_is_still_a_column(survey: Survey, respondents: Rows) -> None:
    rows = divide(respondents, survey, WORDINGS, settings(unstated=["party"]))["train"]
    assert not [row for row in rows if "Democrat" in row["persona"] or "Republican" in row["persona"]]
    assert {"Democrat", "Republican"} <= {row["party"] for row in rows}


def test_balancing_adds_to_training_alone(survey: Survey, respondents: Rows, splits: dict[str, Rows]) -> None:
    balanced = divide(respondents, survey, WORDINGS, settings(balance={"active": True, "by": "race", "to": 0.5, "neighbours": 5}))
    assert balanced["respondents"] == splits["respondents"]
    assert balanced["items"] == splits["items"]
    assert balanced["train"][: len(splits["train"])] == splits["train"]
    added = balanced["train"][len(splits["train"]) :]
    assert added
    assert all(row["synthetic"] and row["race"] in ("Black", "other") for row in added)
    people = Counter({row["respondent"]: row["race"] for row in balanced["train"]}.values())
    assert people["Black"] >= people["white"] // 2 - 1


def test_synthetic_respondents_know_nothing_of_those_held_out(survey: Survey, respondents: Rows) -> None:
    active = settings(balance={"active": True, "by": "race", "to": 0.5, "neighbours": 5})
    draw = random.Random(0)
    other = [row | {name: draw.choice(item.scale.labels) for name, item in survey.items.items()} if is_held_out(row["id"], active) else row for row in respondents]
    assert divide(other, survey, WORDINGS, active)["train"] == divide(respondents, survey, WORDINGS, active)["train"]


def test_parameters_choose_topics_and_items(survey: Survey) -> None:
    trained, held_out = choose_items(survey, settings(topics=[]))
    assert len(trained) + len(held_out) == 18
    assert {item.name for item in held_out} == {"energy", "childcare"}
    trained, held_out = choose_items(survey, settings(held_out_items=["parks"]))
    assert ({item.name for item in trained}, [item.name for item in held_out]) == ({"environment", "energy", "transit"}, ["parks"])
    assert choose_items(survey, settings(held_out_items=[]))[1] == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"topics": ["climate"]}, r"interview\.topics: gss-year2018 has no 'climate' to choose, only environment, places"),
        ({"held_out_items": ["natpark"]}, r"interview\.held_out_items: gss-year2018 has no 'natpark' to choose, only environment, energy"),
        ({"held_out_items": ["childcare"]}, r"interview\.held_out_items: gss-year2018 has no 'childcare' to choose, only environment, energy, parks, transit"),
        ({"unstated": ["region"]}, r"interview\.unstated: gss-year2018 has no 'region' to choose, only age, sex"),
        ({"held_out_items": ["environment", "energy", "parks", "transit"]}, "leaves no item to train on"),
    ],
)
def test_names_that_the_survey_does_not_have_are_refused(survey: Survey, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        choose_items(survey, settings(**changes))


def test_too_few_respondents_are_refused(survey: Survey, respondents: Rows) -> None:
    with pytest.raises(InputError, match="of 1 respondents, [01] are held out"):
        divide(respondents[:1], survey, WORDINGS, settings())
