"""Rows of a table as tokens with the positions that a loss looks at, and the order in which they are trained on."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from stages.errors import InputError
from stages.llm.interface import Message
from stages.llm.tokenizer import Tokenizer


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


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt."""

    id: str
    chosen: Sample
    rejected: Sample


@dataclass(frozen=True)
class Padded:
    """Samples side by side, as tensors."""

    tokens: torch.Tensor
    "[b, s], padded at the end with 0"
    targets: torch.Tensor
    "[b, s]: the token that follows each position, or -1 where the loss does not look"


def answer_sample(tokenizer: Tokenizer, row_id: str, prompt: str, answer: str, max_length: int) -> Sample:
    """An answer in the model's chat form, ending with its end-of-turn token; the loss looks at the answer only.

    :raises InputError: if the prompt alone fills ``max_length`` tokens.
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


def text_sample(tokenizer: Tokenizer, row_id: str, text: str, max_length: int) -> Sample:
    """Plain text without any chat form; the loss looks at all of it but the first token."""
    tokens = [*tokenizer.tokens(text, special=False), *tokenizer.ending[:1]]
    return _sample(row_id, tokens[:1], tokens[1:], max_length)


def _sample(row_id: str, prompt: list[int], answer: list[int], max_length: int) -> Sample:
    if len(prompt) >= max_length:
        raise InputError(f"row {row_id}: its prompt of {len(prompt)} tokens fills the {max_length} of max_length. Raise it.")
    tokens = (prompt + answer)[:max_length]
    return Sample(row_id, tuple(tokens), len(prompt), len(tokens) < len(prompt) + len(answer))


def held_out(post_ids: Sequence[str], share: float) -> list[bool]:
    """Which rows are kept from training: about ``share`` of the posts, the same ones in every table, whatever else it holds."""
    return [int(hashlib.sha256(post_id.encode()).hexdigest()[:8], 16) / 16**8 < share for post_id in post_ids]


def pad(samples: Sequence[Sample], device: torch.device) -> Padded:
    """Samples as tensors on ``device``."""
    length = max(len(sample.tokens) for sample in samples)
    tokens = torch.zeros(len(samples), length, dtype=torch.long)
    targets = torch.full((len(samples), length), -1, dtype=torch.long)
    for i, sample in enumerate(samples):
        n = len(sample.tokens)
        tokens[i, :n] = torch.tensor(sample.tokens)
        targets[i, sample.start - 1 : n - 1] = tokens[i, sample.start : n]
    return Padded(tokens.to(device), targets.to(device))


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
