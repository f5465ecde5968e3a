from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from stages.surveys.baselines import baselines, predict

ALL = baselines(["sex"], trees=20, seed=1)


def row(respondent: int, item: str, sex: str | None, answer: int, weight: float = 1.0, options: tuple[str, ...] = ("a", "b", "c")) -> dict[str, Any]:
    k = len(options)
    order = list(range(k))[::-1]
    return {"respondent": str(respondent), "item": item, "sex": sex, "options": [options[i] for i in order], "order": order, "answer": order.index(answer), "weight": weight}


MEN = [row(i, "parks", "male", 0 if i % 4 else 1) for i in range(40)]
WOMEN = [row(100 + i, "parks", "female", 1 if i % 4 else 0) for i in range(40)]
ASKED = [row(200, "parks", "male", 2), row(201, "parks", "female", 2), row(202, "parks", None, 2)]


def test_uniform_and_marginal_know_nothing_of_a_respondent() -> None:
    np.testing.assert_allclose(predict(ALL["uniform"], MEN + WOMEN, ASKED), np.full((3, 3), 1 / 3))
    heavy = [row(1, "parks", "male", 0, 3.0), row(2, "parks", "male", 2)]
    np.testing.assert_allclose(predict(ALL["marginal"], heavy, ASKED), [[0.75, 0, 0.25]] * 3)


@pytest.mark.parametrize("name", ["logistic", "forest"])
def test_the_others_know_what_personas_state(name: str) -> None:
    man, woman, _ = predict(ALL[name], MEN + WOMEN, ASKED)
    assert man[0] == pytest.approx(0.75, abs=0.08)
    assert woman[1] == pytest.approx(0.75, abs=0.08)
    assert man[2] == woman[2] == 0  # nobody gave the third answer
    assert man.sum() == pytest.approx(1)


def test_logistic_regression_is_scikit_learns_with_weights() -> None:
    weighted = [one | {"weight": 1 + i % 3} for i, one in enumerate(MEN + WOMEN)]
    places = [0 if i % 4 else 1 for i in range(40)] + [1 if i % 4 else 0 for i in range(40)]
    columns = np.array([[one["sex"] == "female", one["sex"] == "male"] for one in weighted], dtype=float)
    model = LogisticRegression(max_iter=1000).fit(columns, places, sample_weight=[one["weight"] for one in weighted])
    expected = model.predict_proba(np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(predict(ALL["logistic"], weighted, ASKED)[:, :2], expected, rtol=1e-4)


def test_an_item_held_out_is_answered_like_the_items_with_its_options() -> None:
    other = [row(i, "roads", "male", 2) for i in range(20)] + [row(i, "trains", "male", 0, options=("x", "y", "z")) for i in range(20)]
    np.testing.assert_allclose(predict(ALL["marginal"], other, ASKED), [[0, 0, 1]] * 3)
    np.testing.assert_allclose(predict(ALL["forest"], other, ASKED), [[0, 0, 1]] * 3)
    strange = [row(1, "cars", "male", 0, options=("never", "always"))]
    np.testing.assert_allclose(predict(ALL["forest"], other, strange), [[0.5, 0.5]])


def test_variants_of_an_answer_count_once() -> None:
    np.testing.assert_allclose(predict(ALL["marginal"], [*MEN, *MEN[:10], *WOMEN], ASKED), predict(ALL["marginal"], MEN + WOMEN, ASKED))
