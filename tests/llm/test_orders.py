from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from stages.llm.interface import Choice, Completion, Message, Prompt, Sampling
from stages.llm.orders import both_ways, choose_over_orders, rotations

OPTIONS = ("never", "sometimes", "always")


class Habit:
    """Likes what it likes, and the first place besides."""

    fingerprint = "habit"

    def __init__(self, taste: dict[str, float], first: float) -> None:
        self.taste, self.first = taste, first

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, repeats: Sequence[int] = ()) -> Iterator[tuple[int, Completion]]:
        raise NotImplementedError

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Iterator[tuple[int, Choice]]:
        for index, prompt in enumerate(prompts):
            listed = prompt[0].content.split()
            weights = np.array([self.taste[label] + self.first * (place == 0) for place, label in enumerate(listed)])
            yield index, Choice(tuple(weights / weights.sum()), 0.5, 1)


def ask(labels: Sequence[str]) -> list[Prompt]:
    return [(Message("user", " ".join(labels)),)] * 2


@pytest.mark.parametrize("marks", [(), ("A", "B", "C")])
def test_a_habit_of_picking_the_first_cancels_over_all_rotations(marks: tuple[str, ...]) -> None:
    found, mass = choose_over_orders(Habit(dict.fromkeys(OPTIONS, 1.0), first=5.0), ask, OPTIONS, rotations(3), marks)
    np.testing.assert_allclose(found, np.full((2, 3), 1 / 3))
    np.testing.assert_allclose(mass, [0.5, 0.5])


def test_what_is_liked_stays_in_the_order_of_the_options() -> None:
    taste = {"never": 1.0, "sometimes": 2.0, "always": 7.0}
    found, _ = choose_over_orders(Habit(taste, first=0.0), ask, OPTIONS, both_ways(3), ("A", "B", "C"))
    np.testing.assert_allclose(found, [[0.1, 0.2, 0.7]] * 2)


def test_each_option_stands_at_each_place_once() -> None:
    assert all(sorted(places) == [0, 1, 2, 3] for places in zip(*rotations(4), strict=True))
    assert both_ways(3) == [(0, 1, 2), (2, 1, 0)]
