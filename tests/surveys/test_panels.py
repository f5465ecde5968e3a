from typing import Any

import numpy as np
import pytest

from stages.surveys.panels import GroupAnswers, Sample, answers, labels_of, panels


def row(respondent: str, party: str | None, answer: int, weight: float = 1.0, **more: Any) -> dict[str, Any]:
    order = [2, 0, 1]  # shown: the last option of the scale, then the first, then the second
    said = {"respondent": respondent, "item": "parks", "party": party, "options": ["c", "a", "b"], "order": order, "answer": order.index(answer), "weight": weight}
    return said | {"synthetic": False} | more


ROWS = [row("1", "left", 0, 3.0), row("2", "left", 1), row("3", "right", 2), row("4", "right", 2), row("5", None, 0)]
EVERYBODY = np.array([4, 1, 2]) / 7


def test_an_answer_is_on_the_scale_whatever_was_shown() -> None:
    assert answers(row("1", None, 0)) == (1.0, 0.0, 0.0)
    assert answers(row("1", None, 2)) == (0.0, 0.0, 1.0)


def test_a_group_answers_as_its_members_do_by_weight() -> None:
    known = GroupAnswers(ROWS, ["party"], 0.0)
    assert known.of(row("9", "left", 2)) == pytest.approx((3 / 4, 1 / 4, 0))
    assert known.labelled("parks", ("right",)) == pytest.approx((0, 0, 1))


def test_a_small_group_is_drawn_towards_everybody() -> None:
    known = GroupAnswers(ROWS, ["party"], 2.0)
    assert known.of(ROWS[2]) == pytest.approx((np.array([0, 0, 2]) + 2 * EVERYBODY) / 4)
    assert known.labelled("parks", ("green",)) == pytest.approx(EVERYBODY)


def test_variants_count_once_and_synthetic_respondents_never() -> None:
    more = [*ROWS, row("1", "left", 0, 3.0), row("6", "left", 2, 9.0, synthetic=True)]
    assert GroupAnswers(more, ["party"], 1.0).of(ROWS[0]) == GroupAnswers(ROWS, ["party"], 1.0).of(ROWS[0])


def test_labels_are_numbered_without_the_unknown() -> None:
    assert labels_of(ROWS, "party") == {"left": 0, "right": 1}


OPTIONS = {"parks": ((1,), (2,)), "roads": ((3,), (4, 5))}


def sample(i: int) -> Sample:
    return Sample((i,), (1.0, 0.0), 1.0, 0, -1)


def test_panels_hold_one_item_and_order_and_each_sample_at_most_once() -> None:
    forwards, backwards = (0, 1), (1, 0)
    given = {("parks", forwards): [sample(i) for i in range(7)], ("parks", backwards): [sample(i) for i in range(7, 11)], ("roads", forwards): [sample(i) for i in range(2)]}
    real = {"parks": np.eye(2), "roads": np.eye(2)}
    found = panels(given, OPTIONS, real, 3, seed=1)
    assert [(panel.item, len(panel.samples)) for panel in found] == [("parks", 3), ("parks", 3), ("parks", 3), ("roads", 2)]
    shown = [one.tokens for panel in found if panel.item == "parks" for one in panel.samples]
    assert len(set(shown)) == 9
    assert all((i < 7) == (place < 6) for place, (i,) in enumerate(shown))
    assert found[3].options == ((3,), (4, 5))
    assert shown != sorted(shown)
    assert panels(given, OPTIONS, real, 3, seed=1)[0].samples == found[0].samples
