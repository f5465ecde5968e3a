"""Rows of a table as tokens with the positions that a loss looks at, and the order in which they are trained on."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from stages.core.errors import InputError
from stages.llm.interface import Message
from stages.llm.tokenizer import Tokenizer
from stages.tuning.fused import Texts

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One text to learn from."""

    id: str
    "of its row"
    tokens: tuple[int, ...]
    start: int
    "the loss looks at tokens from this index on; those before are the prompt"
    truncated: bool
    "whether tokens were cut off to fit"
    packed: tuple[int, ...] = ()
    "lengths of the texts that stand in ``tokens`` one after the other, if there is more than one; none sees the others"

    @property
    def targets(self) -> Sequence[int]:
        """Indices of the tokens that the loss looks at; a packed text's first token is none of them."""
        if not self.packed:
            return range(self.start, len(self.tokens))
        firsts = set(itertools.accumulate(self.packed))
        return [i for i in range(self.start, len(self.tokens)) if i not in firsts]


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt."""

    id: str
    chosen: Sample
    rejected: Sample

    @property
    def truncated(self) -> bool:
        """Whether tokens of either were cut off to fit."""
        return self.chosen.truncated or self.rejected.truncated


def counted(found: "Sequence[Sample | Pair]", what: str, max_length: int) -> str:
    """How many there are of ``what``, and how many were cut, for people."""
    return f"{len(found)} {what}, {sum(one.truncated for one in found)} of them cut at {max_length} tokens"


@dataclass(frozen=True)
class Batch:
    """Samples one after the other in one row, without padding, as tensors."""

    tokens: torch.Tensor
    "[1, t]"
    targets: torch.Tensor
    "[1, t]: the token that follows each position, or -1 where the loss does not look"
    owners: torch.Tensor
    "[1, t]: which sample each token belongs to"
    texts: Texts
    "a sample is one text or several, and none sees another"


class PromptTooLong(InputError):
    """A prompt that leaves no room for an answer."""

    def __init__(self, row_id: str, length: int, max_length: int) -> None:
        self.row_id = row_id
        super().__init__(f"row {row_id}: its prompt of {length} tokens fills the {max_length} of tuning.max_length. Raise it, or take the row out.")


def answer_sample(tokenizer: Tokenizer, row_id: str, prompt: str, answer: str, max_length: int) -> Sample:
    """An answer in the model's chat form, ending with its end-of-turn token; the loss looks at the answer only.

    :raises PromptTooLong: if the prompt alone fills ``max_length`` tokens.
    """
    turns = (Message("user", prompt),)
    before = tokenizer.render(turns)
    whole = tokenizer.render((*turns, Message("assistant", answer)), answer_follows=False)
    if not whole.startswith(before):
        raise InputError(f"{tokenizer.file}: its chat template does not put an answer after its prompt, so the two cannot be told apart.")
    first, rest = tokenizer.tokens(before), tokenizer.tokens(whole[len(before) :])
    ends = [i for i, token in enumerate(rest) if token in tokenizer.ending]
    rest = rest[: ends[-1] + 1] if ends else rest
    return _sample(row_id, first, rest, max_length)


def each_row(table: Path, rows: Iterable[R], make: Callable[[R], T]) -> list[T]:
    """``make`` of every row.

    :raises InputError: naming all rows whose prompt leaves no room for an answer.
    """
    found, too_long = [], []
    for row in rows:
        try:
            found.append(make(row))
        except PromptTooLong as error:
            too_long.append(error)
    if too_long:
        names = ", ".join(error.row_id for error in too_long[:10])
        raise InputError(f"{table}: in {len(too_long)} rows the prompt leaves no room for an answer: id {names}. For example {too_long[0]}") from too_long[0]
    return found


def text_sample(tokenizer: Tokenizer, row_id: str, text: str, max_length: int) -> Sample:
    """Plain text without any chat form, as the model's own tokenizer begins one; the loss looks at all of it but the first token."""
    tokens = [*tokenizer.beginning, *tokenizer.tokens(text, special=False), *tokenizer.ending[:1]]
    return _sample(row_id, tokens[:1], tokens[1:], max_length)


def _sample(row_id: str, prompt: list[int], answer: list[int], max_length: int) -> Sample:
    if len(prompt) >= max_length:
        raise PromptTooLong(row_id, len(prompt), max_length)
    tokens = (prompt + answer)[:max_length]
    return Sample(row_id, tuple(tokens), len(prompt), len(tokens) < len(prompt) + len(answer))


def held_out(post_ids: Sequence[str], share: float) -> list[bool]:
    """Which rows are kept from training: about ``share`` of the posts, the same ones in every table, whatever else it holds."""
    return [int(hashlib.sha256(post_id.encode()).hexdigest()[:8], 16) / 16**8 < share for post_id in post_ids]


def split(found: Sequence[tuple[str, T]], share: float, what: str) -> tuple[list[T], list[T]]:
    """What is trained on and what is held out, of samples with the post each comes from; ``what`` they are, for errors.

    :raises InputError: if nothing is left to train on.
    """
    out = held_out([post_id for post_id, _ in found], share)
    training = [sample for (_, sample), kept_out in zip(found, out, strict=True) if not kept_out]
    require_rows(training, f"{what} without the tuning.held_out share of {share}")
    return training, [sample for (_, sample), kept_out in zip(found, out, strict=True) if kept_out]


def pack(samples: Sequence[Sample], max_length: int) -> list[Sample]:
    """Plain texts side by side in samples of at most ``max_length`` tokens, so that batches are of even size; each still sees only itself.

    The longest first, each where it leaves the least room.
    """
    bins: list[list[Sample]] = []
    with_room: list[list[int]] = [[] for _ in range(max_length + 1)]  # bins by the number of tokens that still fit
    for sample in sorted(samples, key=lambda sample: -len(sample.tokens)):
        n = len(sample.tokens)
        room = next((room for room in range(n, max_length + 1) if with_room[room]), None)
        if room is None:
            bins.append([])
            room, place = max_length, len(bins) - 1
        else:
            place = with_room[room].pop()
        bins[place].append(sample)
        with_room[room - n].append(place)
    return [texts[0] if len(texts) == 1 else _packed(texts) for texts in bins]


def _packed(texts: list[Sample]) -> Sample:
    tokens = tuple(token for text in texts for token in text.tokens)
    return Sample(texts[0].id, tokens, texts[0].start, any(text.truncated for text in texts), tuple(len(text.tokens) for text in texts))


def joined(samples: Sequence[Sample], device: torch.device) -> Batch:
    """Samples as tensors on ``device``."""
    tokens = [token for sample in samples for token in sample.tokens]
    targets = [-1] * len(tokens)
    first = 0
    for sample in samples:
        for i in sample.targets:
            targets[first + i - 1] = sample.tokens[i]
        first += len(sample.tokens)
    owners = torch.repeat_interleave(torch.tensor([len(sample.tokens) for sample in samples]))
    lengths = [n for sample in samples for n in sample.packed or (len(sample.tokens),)]
    return Batch(torch.tensor([tokens], device=device), torch.tensor([targets], device=device), owners[None].to(device), Texts.of(lengths, device))


def batches(n: int, size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of ``size`` indices below ``n``: each epoch in a new order, a batch runs on into the next epoch."""
    generator = torch.Generator().manual_seed(seed)
    queue: list[int] = []
    while True:
        while len(queue) < size:
            queue += torch.randperm(n, generator=generator).tolist()
        yield queue[:size]
        queue = queue[size:]


def require_rows(rows: Sequence[object], table: str) -> None:
    """:raises InputError: if there is nothing to train on."""
    if not rows:
        raise InputError(f"{table}: holds no row to train on. Loosen what the stages before it filter, or give it more posts.")
