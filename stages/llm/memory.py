"""What models remember of texts that they write side by side."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stages.llm.choosing import parting
from stages.llm.context import Batch, Context


class Memory(Protocol):
    """Texts at places 0, 1, …, all of which begin alike."""

    places: int
    "how many texts there is room for"

    def begin(self, place: int, prompts: Sequence[list[int]]) -> None:
        """Put ``prompts`` (token ids) to ``place`` and the places after it, instead of what was there. They should be in the order of their tokens."""
        ...

    def follow(self, tokens: Sequence[int]) -> Sequence[NDArray[np.float32]]:
        """Append a token to each of the first texts; for each the logits [v] of what follows it, valid until the next call."""
        ...

    def move(self, source: int, target: int) -> None:
        """Put the text from place ``source`` to place ``target``."""
        ...


class LlamaMemory:
    """Sequences of llama.cpp that keep apart. What all texts begin with is sequence 0; the place of a text is that of its sequence less one."""

    def __init__(self, context: Context, shared: Sequence[int]) -> None:
        """Memory in ``context``; all prompts begin with ``shared``."""
        self.places, self._context, self._batch, self._shared = context.sequences - 1, context, Batch(), len(shared)
        self._lengths = [0] * self.places
        context.extend(0, shared, 0)

    def begin(self, place: int, prompts: Sequence[list[int]]) -> None:
        """See :class:`Memory`. Each goes on where it parts from the one before."""
        source = 0
        for target, (tokens, alike) in enumerate(zip(prompts, parting(prompts), strict=True), place):
            known = max(alike, self._shared)
            self._context.copy(source, target + 1)
            self._context.forget(target + 1, known)
            self._context.extend(target + 1, tokens[known:], known)
            self._lengths[target] = len(tokens)
            source = target + 1

    def follow(self, tokens: Sequence[int]) -> Sequence[NDArray[np.float32]]:
        """See :class:`Memory`."""
        self._batch.clear()
        for place, token in enumerate(tokens):
            self._batch.add(token, self._lengths[place], [place + 1], logits=True)
            self._lengths[place] += 1
        self._context.evaluate(self._batch)
        return [self._context.logits(place) for place in range(len(tokens))]

    def move(self, source: int, target: int) -> None:
        """See :class:`Memory`. llama.cpp evaluates together what lies side by side."""
        self._context.copy(source + 1, target + 1)
        self._lengths[target] = self._lengths[source]
