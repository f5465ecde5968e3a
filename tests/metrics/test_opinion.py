from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.llm import prompts
from stages.metrics.opinion import Item, Params, items, report
from stages.statistics.groups import Array
from stages.surveys.interviews import Interviews

ROOT = Path(__file__).parents[2]
TASK = prompts.load(ROOT / "prompts/simulate.yaml")
SETTINGS = Params(respondents=200, min_group=20.0, picture=("party",), trees=10, seed=1)
PLACES = {"left": [0.1, 0.2, 0.7], "right": [0.6, 0.3, 0.1]}


def row(i: int, item: str = "parks", split: str = "respondents", wording: str = "form", answer: int | None = None) -> dict[str, Any]:
    party = "left" if i % 2 else "right"
    order = [2, 0, 1]
    chosen = answer if answer is not None else int(np.random.default_rng(i).choice(3, p=PLACES[party]))
    said = {"id": f"{item}{i}{wording}", "respondent": f"{i:04}", "item": item, "wording": wording, "persona": f"{wording}: {party}", "question": f"What of {item}?"}
    said |= {"options": ["much", "little", "right"], "order": order, "answer": order.index(chosen), "weight": 1 + i % 3, "split": split, "synthetic": False}
    return said | {"party": party, "sex": "female" if i % 4 else "male"}


def table(rows: list[dict[str, Any]]) -> Interviews:
    return Interviews(Path("test.parquet"), rows, ("party", "sex"), ("party",))


def test_respondents_of_one_persona_are_asked_once_in_both_orders(fake_model: type[Any]) -> None:
    item = Item([row(i) for i in range(10)])
    assert item.personas == ["form: right", "form: left"]
    model = fake_model(choices=[[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.3, 0.2, 0.5], [0.5, 0.2, 0.3]])
    found, mass = item.simulate(model, TASK)
    assert len(model.history) == 4
    assert [prompt[-1].content.splitlines()[1] for prompt in model.history] == ["- little", "- little", "- much", "- much"]
    right, left = [0.6, 0.2, 0.2], [0.2, 0.2, 0.6]  # scale: little, right, much; each the mean of an order and its reverse
    np.testing.assert_allclose(found, [left if i % 2 else right for i in range(10)])
    assert mass == 1


def test_several_wordings_of_a_persona_are_averaged(fake_model: type[Any]) -> None:
    item = Item([row(1), row(1, wording="first")])
    assert len(item.rows) == 1
    model = fake_model(choices=[[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.1, 0.1, 0.8], [0.1, 0.5, 0.4]])
    found, _ = item.simulate(model, TASK)
    np.testing.assert_allclose(found, [[0.6, 0.3, 0.1]])


def test_the_first_respondents_are_measured_in_every_split() -> None:
    rows = [row(i, item, split) for i in range(30) for item, split in (("roads", "items"), ("parks", "respondents"))]
    found = items(table(rows), 10)
    assert [(item.split, item.name, len(item.rows)) for item in found] == [("respondents", "parks", 10), ("items", "roads", 10)]
    assert {one["respondent"] for one in found[0].rows} == {f"{i:04}" for i in range(10)}


@pytest.fixture(scope="module")
def told() -> tuple[dict[str, Any], list[list[object]], list[list[object]]]:
    rows = [row(i, item, split) for i in range(200) for item, split in (("parks", "respondents"), ("roads", "items"))]
    asked = items(table(rows), 200)
    truth = [np.array([PLACES[one["party"]] for one in item.rows]) for item in asked]
    flat = [np.full((len(item.rows), 3), 1 / 3) for item in asked]
    simulated: dict[str, list[Array]] = {"base": [np.tile([0.9, 0.1, 0.0], (len(one), 1)) for one in flat], "tuned": truth, "uniform": flat}
    simulated |= {"forest": [(2 * one + other) / 3 for one, other in zip(truth, flat, strict=True)], "marginal": [np.full_like(one, one.mean(axis=0)) for one in truth]}
    return report(asked, simulated, table(rows), SETTINGS)


def test_the_reduction_is_told_for_respondents_and_items(told: tuple[dict[str, Any], Any, Any]) -> None:
    found = told[0]
    for key in ("reduction", "reduction_items", "reduction_from_uniform", "reduction_from_uniform_items"):
        assert set(found[key]) == {"kl", "chi2", "kl_groups", "chi2_groups"}
        for name in ("kl", "chi2"):
            assert found[key][name]["low"] <= found[key][name]["value"] <= found[key][name]["high"] <= 1
        assert found[key]["kl_groups"]["value"] > 0.7
    assert found["reduction_from_uniform"]["kl_groups"]["value"] < found["reduction"]["kl_groups"]["value"]  # uniform answers are nearer than the base model's
    assert found["sample"]["respondents"]["respondents"] == 200
    weights = np.array([1 + i % 3 for i in range(200)], dtype=float)
    assert found["sample"]["respondents"]["effective"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_every_model_has_its_measures(told: tuple[dict[str, Any], Any, Any]) -> None:
    for model in ("base", "tuned", "uniform", "forest", "marginal"):
        assert set(told[0][model]) == {"respondents", "items"}
        assert {"kl", "chi2", "cramers_v", "log_loss", "parity_gap", "worst_group"} <= set(told[0][model]["respondents"])
    assert told[0]["tuned"]["respondents"]["kl_groups"]["value"] < told[0]["base"]["respondents"]["kl_groups"]["value"]
    assert told[0]["tuned"]["respondents"]["sign_agreement"] == {"share": 1.0, "n": 1}
    assert "sign_agreement" in told[0]["base"]["respondents"]


@pytest.mark.parametrize(("rival", "words"), [("forest", "a random forest on the same attributes"), ("marginal", "the distribution of all answers, which tells nobody apart,")])
def test_a_sentence_says_where_a_baseline_is_nearer(told: tuple[dict[str, Any], Any, Any], rival: str, words: str) -> None:
    sentence = told[0][f"{rival}_or_tuned_respondents"]
    kl = {model: [line[8] for line in told[2] if line[0] == model and line[1] == "respondents" and line[3] != "everybody"] for model in (rival, "tuned")}
    nearer = sum(float(str(one)) < float(str(other)) for one, other in zip(kl[rival], kl["tuned"], strict=True))
    assert sentence.startswith(f"For respondents held out, {words} is nearer than the tuned model in {nearer} of 4 pairs of item and subgroup")
    assert "guesses single answers no better" in sentence


def test_the_picture_shows_real_and_simulated_answers_of_the_chosen_groups(told: tuple[Any, list[list[object]], Any]) -> None:
    assert [line[:5] for line in told[1][:3]] == [
        ["respondents", "parks", "everybody", "everybody", 200],
        ["respondents", "parks", "party", "left", 100],
        ["respondents", "parks", "party", "right", 100],
    ]
    for line in told[1]:
        real, low, high, base, tuned, uniform, *_ = (float(str(cell)) for cell in line[5:])
        assert low <= real <= high
        assert (base, uniform) == (pytest.approx(0.05), pytest.approx(0.5))
        assert abs(tuned - real) < 0.1


def test_the_table_has_a_row_for_every_model_item_and_group(told: tuple[Any, Any, list[list[object]]]) -> None:
    assert len(told[2]) == 5 * 2 * 5
    assert {tuple(line[3:5]) for line in told[2]} == {("everybody", "everybody"), ("party", "left"), ("party", "right"), ("sex", "female"), ("sex", "male")}
