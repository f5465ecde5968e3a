"""Which sequences of a context are being written, and how many of its cells they may come to need."""

from collections.abc import Callable


class Memory:
    """Sequences to write in, each with room reserved for all of its tokens.

    The cells of an ended sequence are not given back at once. llama.cpp sums over a sequence's tokens in the order of their cells, so a token
    that lands in an early cell that has just become free would round the sums of its sequence differently than in an empty memory.
    """

    def __init__(self, cells: int, sequences: range, at_once: int, forget: Callable[[int], None]) -> None:
        """``cells`` tokens in all; ``sequences`` may be used, ``at_once`` of them at a time; ``forget`` gives the cells of one back."""
        self._room, self._unused, self._at_once, self._forget = cells, list(reversed(sequences)), at_once, forget
        self._writing, self._ended = dict[int, int](), dict[int, int]()

    def begin(self, cells: int) -> int | None:
        """A sequence with room for ``cells`` tokens; none if others must end first."""
        if len(self._writing) == self._at_once:
            return None
        if not self._writing or not self._unused or cells > self._room:
            for sequence, held in self._ended.items():
                self._forget(sequence)
                self._room += held
                self._unused.append(sequence)
            self._ended.clear()
        if cells > self._room:
            return None
        sequence = self._unused.pop()
        self._room -= cells
        self._writing[sequence] = cells
        return sequence

    def end(self, sequence: int, cells: int) -> None:
        """Nothing more is written to ``sequence``, which came to hold ``cells`` tokens."""
        self._room += self._writing.pop(sequence) - cells
        self._ended[sequence] = cells
