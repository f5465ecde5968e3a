"""Options after many prompts, evaluated as one tree: what prompts begin with alike, however many of them, is evaluated once."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from stages.llm.context import BATCH, SEQUENCES, Batch, Context
from stages.llm.options import OptionTree, Tokens

ROOM = BATCH + 1
"Tokens that must fit into memory beside the longest prompt."


def log_probabilities(context: Context, prompts: Sequence[list[int]], tree: OptionTree) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The index of each prompt (token ids) and the log-probabilities [k] of the options after it.

    Prompts are taken in the order of their tokens, and each goes on where it parts from the one before; sequence 0 keeps the last one from group to group.
    """
    context.clear()
    kept: list[int] = []
    order = sorted(range(len(prompts)), key=lambda index: prompts[index])
    ordered = [prompts[index] for index in order]
    for group in _groups(ordered, tree):
        some = ordered[group]
        found: list[dict[tuple[Tokens, int], float]] = [{} for _ in some]
        for part in _parts(tree.branches, len(some)):
            _follow(context, kept, some, part, tree, found)
            kept = some[-1]
        for index, logs in zip(order[group], found, strict=True):
            yield index, tree.log_probabilities(logs)


def common_prefix(sequences: Sequence[list[int]]) -> int:
    """How many first tokens all share, leaving each at least one of its own; there must be a sequence."""
    low, high = min(sequences), max(sequences)
    limit = max(0, min(map(len, sequences)) - 1)
    return next((i for i in range(limit) if low[i] != high[i]), limit)


def parting(prompts: Sequence[list[int]]) -> list[int]:
    """At which position each prompt parts from the one before, 0 for the first; what lies before is evaluated once if they are in the order of their tokens."""
    return [common_prefix(pair) for pair in pairwise([[], *prompts])]


def _follow(
    context: Context, kept: list[int], prompts: Sequence[list[int]], branches: Sequence[Tokens], tree: OptionTree, found: Sequence[dict[tuple[Tokens, int], float]]
) -> None:
    """Evaluate ``prompts`` and each of ``branches`` after them as a sequence of its own; the wanted log-probabilities go to ``found``.

    Sequence 0 holds the prompt ``kept`` before, and the last of ``prompts`` afterwards.
    """
    starts = parting([kept, *prompts])[1:]
    context.forget(0, starts[0])
    for place, alike in enumerate(accumulate(starts, min)):
        for sequence in _sequences(place, place + 1, branches):
            context.copy(0, sequence, alike)
    batch, read = Batch(), list[tuple[int, Tokens, dict[tuple[Tokens, int], float]]]()

    def evaluate() -> None:
        context.evaluate(batch)
        for row, beginning, logs in read:
            logits = context.logits(row)
            total = float(logits.max()) + float(np.log(np.exp(logits - logits.max()).sum(dtype=np.float64)))
            logs |= {(beginning, token): float(logits[token]) - total for token in tree.wanted[beginning]}
        batch.clear()
        read.clear()

    for place, token, position, sequences, beginning in _nodes(prompts, starts, branches):
        row = batch.add(token, position, sequences, logits=beginning is not None)
        if beginning is not None:
            read.append((row, beginning, found[place]))
        if batch.size == BATCH:
            evaluate()
    if batch.size:
        evaluate()
    context.forget(0)
    context.copy(_sequences(len(prompts) - 1, len(prompts), branches)[0], 0, len(prompts[-1]))
    for sequence in _sequences(0, len(prompts), branches):
        context.forget(sequence)


def _nodes(prompts: Sequence[list[int]], starts: Sequence[int], branches: Sequence[Tokens]) -> Iterator[tuple[int, int, int, Sequence[int], Tokens | None]]:
    """Each token to evaluate: its prompt's place, itself, its position, the sequences that it belongs to, and the beginning of options that ends with it, if any.

    ``starts`` are the positions at which each prompt parts from the one before.
    """
    for place, tokens in enumerate(prompts):
        for position in range(starts[place], len(tokens)):
            end = next((later for later in range(place + 1, len(prompts)) if starts[later] <= position), len(prompts))
            yield place, tokens[position], position, _sequences(place, end, branches), () if position == len(tokens) - 1 else None
        for sequence, branch in zip(_sequences(place, place + 1, branches), branches, strict=True):
            for n, token in enumerate(branch):
                yield place, token, len(tokens) + n, (sequence,), branch[: n + 1]


def _sequences(first: int, end: int, branches: Sequence[Tokens]) -> range:
    """Those of the prompts from place ``first`` to before ``end``, one a branch; 0 is none of them."""
    return range(1 + first * len(branches), 1 + end * len(branches))


def _groups(prompts: Sequence[list[int]], tree: OptionTree) -> Iterator[slice]:
    """Prompts in groups that one batch can hold with their branches; a longer one makes a group of its own."""
    extra, first, room = sum(map(len, tree.branches)), 0, BATCH
    for place, (tokens, start) in enumerate(zip(prompts, parting(prompts), strict=True)):
        need = len(tokens) - start + extra
        if place > first and (need > room or (place - first + 1) * len(tree.branches) >= SEQUENCES):
            yield slice(first, place)
            first, room = place, BATCH
        room -= need
    yield slice(first, len(prompts))


def _parts(branches: Sequence[Tokens], prompts: int) -> Iterator[Sequence[Tokens]]:
    """``branches`` in parts that sequences and cells suffice for."""
    longest = max(map(len, branches))
    size = max(1, min((SEQUENCES - 1) // prompts, BATCH // max(1, longest * prompts)))
    for first in range(0, len(branches), size):
        yield branches[first : first + size]
