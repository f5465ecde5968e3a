"""Choosing among options that the prompt lists, averaged over the orders in which it lists them, so that a habit of picking the first cancels."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.llm.interface import LanguageModel, Prompt, choices


def rotations(k: int) -> list[tuple[int, ...]]:
    """``k`` orders in which each option stands at each place once."""
    return [tuple((first + i) % k for i in range(k)) for first in range(k)]


def both_ways(k: int) -> list[tuple[int, ...]]:
    """The order as given and its reverse: enough where options have a natural order."""
    return [tuple(range(k)), tuple(reversed(range(k)))]


def choose_in_orders(
    model: LanguageModel, ask: Callable[[Sequence[str]], Sequence[Prompt]], options: Sequence[str], orders: Sequence[Sequence[int]], marks: Sequence[str] = ()
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities [n, orders, k], always in the order of ``options``, and the mass [n, orders] that all options got, with each of ``orders``.

    ``ask`` makes the prompts that list options as they are handed to it. The model answers with an option itself, or, if ``marks`` are given ("A", "B", …),
    with the mark of its place.
    """
    probabilities, masses = [], []
    for order in orders:
        listed = [options[i] for i in order]
        prompts = ask(listed)
        answers = choices(model, prompts, list(marks) or listed)
        found = np.empty((len(prompts), len(options)))
        found[:, list(order)] = np.array([answer.probabilities for answer in answers]).reshape(found.shape)
        probabilities.append(found)
        masses.append(np.array([answer.mass for answer in answers]))
    return np.stack(probabilities, axis=1), np.stack(masses, axis=1)


def choose_over_orders(
    model: LanguageModel, ask: Callable[[Sequence[str]], Sequence[Prompt]], options: Sequence[str], orders: Sequence[Sequence[int]], marks: Sequence[str] = ()
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As :func:`choose_in_orders`, both averaged over ``orders``: probabilities [n, k] and mass [n]."""
    probabilities, masses = choose_in_orders(model, ask, options, orders, marks)
    return probabilities.mean(axis=1), masses.mean(axis=1)
