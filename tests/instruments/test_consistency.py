import numpy as np
import pytest

from stages.instruments import consistency
from stages.instruments.questionnaire import Answers, Axis, Item, Questionnaire

SD, D, A, SA = np.eye(4)


def questionnaire() -> Questionnaire:
    items = [
        Item(id="up", text="Up.", axis="e", direction=1, topic="t", taps="x"),
        Item(id="down", text="Down.", axis="e", direction=-1, topic="t", taps="x", negates="up"),
        Item(id="more", text="More.", axis="e", direction=1, topic="t", taps="x"),
        Item(id="less", text="Less.", axis="e", direction=-1, topic="t", taps="x", negates="more"),
        Item(id="alone", text="Alone.", axis="e", direction=1, topic="t", taps="x"),
    ]
    return Questionnaire(name="n", title="t", description="d", axes={"e": Axis(positive="right", low="l", high="h")}, items=tuple(items), wordings=())


def answers(by_item: list[list[np.ndarray]]) -> Answers:
    """The same answers in both orders."""
    chances = np.repeat(np.array(by_item)[:, :, None], 2, axis=2)
    return Answers(chances=chances, mass=np.ones(chances.shape[:2]))


def test_flips_are_counted_between_pairs_of_wordings() -> None:
    values = np.array([[1, 1, 1, 1], [1, 1 / 3, -1, 1], [1, -1, 1, -1], [1, 0, 0, -1]])
    assert consistency.flips(values) == pytest.approx([0, 3 / 6, 4 / 6, 1 / 6])


def test_what_is_left_of_exact_cancellation_takes_no_side() -> None:
    assert consistency.flips(np.array([[1e-17, -1e-17]])) == pytest.approx([0])


def test_the_flip_rate_does_not_depend_on_the_number_of_wordings_but_the_share_of_flipped_items_does() -> None:
    values = np.random.default_rng(0).normal(0.5, 1, size=(2000, 12))
    few, many = (consistency.flips(values[:, :n]) for n in (2, 12))
    assert few.mean() == pytest.approx(many.mean(), abs=0.03)
    assert (many > 0).mean() > (few > 0).mean() + 0.4


def test_flips_need_two_wordings() -> None:
    with pytest.raises(ValueError, match="at least two"):
        consistency.flips(np.ones((3, 1)))


def test_the_order_effect_is_half_the_distance_between_both_orders() -> None:
    chances = np.array([[[SD, SA]], [[A, A]], [[A, SA]]])
    assert consistency.order_effect(chances) == pytest.approx(np.array([[1], [0], [1 / 3]]))


def test_pairs_are_rows_of_a_statement_and_its_opposite() -> None:
    assert questionnaire().opposites().tolist() == [[0, 1], [2, 3]]


def test_acquiescence_is_the_mean_answer_to_a_statement_and_its_opposite() -> None:
    given = answers([[SA], [SA], [SA], [SD], [A]])
    assert consistency.acquiescence(given.values, questionnaire().opposites()) == pytest.approx(np.array([[1], [0]]))


def test_figures() -> None:
    found = consistency.figures(answers([[SA, SA], [A, A], [SD, SD], [SA, D], [A, SD]]), questionnaire().opposites(), 1)
    assert found["order_effect"] == pytest.approx(0)
    assert found["flip_rate"]["value"] == pytest.approx(2 / 5)
    assert found["flipped"] == pytest.approx(2 / 5)
    assert found["acquiescence"]["value"] == pytest.approx((2 / 3 + 2 / 3 + 0 - 2 / 3) / 4)
    assert (found["both_agreed"], found["both_rejected"]) == pytest.approx((1 / 2, 1 / 4))
    assert -1 <= found["reliability"] <= 1


def test_measures_that_need_more_wordings_or_pairs_are_left_out() -> None:
    assert set(consistency.figures(answers([[SA], [A], [SD], [SA], [A]]), questionnaire().opposites(), 1)) == {"order_effect", "acquiescence", "both_agreed", "both_rejected"}
    alone = questionnaire().model_copy(update={"items": questionnaire().items[::2]})
    assert set(consistency.figures(answers([[SA], [A], [SD]]), alone.opposites(), 1)) == {"order_effect"}
