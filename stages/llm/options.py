"""Fixed answers as token sequences that share beginnings: the steps whose probabilities make up each answer's."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Tokens = tuple[int, ...]


class OptionTree:
    """The options of one question, read as paths from a common root."""

    def __init__(self, options: Sequence[Sequence[int]], ending: Sequence[int]) -> None:
        """``options`` are token sequences, ``ending`` the tokens that end an answer.

        :raises ValueError: if an option is empty or two are the same.
        """
        self.options = [tuple(option) for option in options]
        if not all(self.options) or len(set(self.options)) < len(self.options):
            raise ValueError("options must differ and not be empty")
        self._steps = [_steps(option) for option in self.options]
        self.wanted: dict[Tokens, set[int]] = {}
        "after each beginning, the tokens whose log-probabilities are needed"
        for beginning, token in (step for steps in self._steps for step in steps):
            self.wanted.setdefault(beginning, set()).add(token)
        self._endings = {option: tuple(ending) for option in self.options if option in self.wanted}
        for option, tokens in self._endings.items():
            self.wanted[option] |= set(tokens)
        inner = sorted(self.wanted)
        self.branches = [one for one, following in pairwise([*inner, ()]) if following[: len(one)] != one] or [()]
        "the longest beginnings: to evaluate them is to pass through all others"
        self.depth = max(map(len, self.options))

    def log_probabilities(self, found: Mapping[tuple[Tokens, int], float]) -> NDArray[np.float64]:
        """Log-probability [k] of each option, from those of each wanted (beginning, token).

        Where an option begins another ("1", "10"), it counts only if the answer ends there.
        """
        logs = [sum(found[step] for step in steps) for steps in self._steps]
        for i, option in enumerate(self.options):
            if option in self._endings:
                logs[i] += float(np.logaddexp.reduce([found[option, token] for token in self._endings[option]]))
        return np.array(logs)


def _steps(option: Tokens) -> list[tuple[Tokens, int]]:
    return [(option[:n], token) for n, token in enumerate(option)]
