import numpy as np
import pytest

from stages.instruments import instrument, paper
from stages.instruments.questionnaire import Axis, Item, Questionnaire
from stages.instruments.replies import Sampled, chosen

pytestmark = pytest.mark.usefixtures("in_root")
SETTINGS = Sampled(repeats=1, statements=4, max_tokens=300, temperature=0.3, top_k=200)


def asked() -> instrument.Instrument:
    axis = Axis(positive="right", low="l", high="h")
    items = [Item(id=f"{a}{d}{n}", text=f"Statement {a} {d} {n}.", axis=a, direction=d, topic="t", taps="x") for n in range(3) for a in ("e", "s") for d in (1, -1)]
    return instrument.of(Questionnaire(name="n", title="t", description="d", axes={"e": axis, "s": axis}, items=tuple(items)))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2", 2),
        ("3: I fully agree with that.", 3),
        ("My answer is 0, because it harms people.", 0),
        ("**1** - the state should not do that.", 1),
        ("I think taxes are too high.\n\nRating: 2", 2),
        ("Score of 3.", 3),
        ("I agree with the statement.", None),
        ("A strong state is needed.", None),  # the article is no option
        ("4", None),
        ("2.5", None),
        ("20 years ago this was different.", None),
        ("1. It is fair.\n2. It is cheap.", None),
        ("", None),
    ],
)
def test_an_integer_is_read_where_it_is_the_answer(text: str, answer: int | None) -> None:
    assert paper.read(text, 4) == answer


def test_statements_are_chosen_from_each_axis_and_direction_in_turn() -> None:
    items = asked().items
    assert [items[i].id for i in chosen(asked(), 4)] == ["e10", "e-10", "s10", "s-10"]
    assert len(chosen(asked(), 99)) == 12


def test_answers_refusals_and_unreadable_texts_are_told_apart(fake_model) -> None:
    model = fake_model(["3 because", "0 because", "I'm sorry, I cannot answer that.", "Well, well."])
    replies = paper.ask(model, asked(), SETTINGS, 1)
    assert "0 = Strongly disagree" in model.history[0][0].content
    forced = [[-1.0], [-1.0]] + [[0.5]] * 10
    found = replies.figures(np.array(forced), 0.05, 1)
    assert (found["valid"], found["refused"], found["unreadable"]) == pytest.approx((0.5, 0.25, 0.25))
    assert found["e"]["value"] == pytest.approx(10)  # agreed with the one keyed up, disagreed with the one keyed down
    assert "s" not in found
    assert found["contradicts"] == pytest.approx(1 / 2)


def test_too_few_readable_answers_give_no_placement(fake_model) -> None:
    replies = paper.ask(fake_model(["3", "Well.", "Well.", "Well."]), asked(), SETTINGS, 1)
    found = replies.figures(np.zeros((12, 1)), 0.5, 1)
    assert found["unplaced"] == "valid"
    assert "e" not in found
    assert "contradicts" not in found  # the forced answers take no side
