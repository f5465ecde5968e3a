"""Texts that begin alike, evaluated as one row: their common beginning once, then what each goes on with.

Prompts about one item of a survey differ in the persona at their end only, so most of the work on a panel of them would be done many times over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

from stages.tuning.fused import Texts, attention, for_all_heads

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Branches(Texts):
    """Where continuations of one beginning stand, as texts behind it; given to the model as its mask.

    Each ends with several tails, tokens that could follow it. A token sees the beginning and what comes before it in its own continuation; one of a tail
    sees of the tails only its own beginnings.
    """

    beginning: int
    "tokens that all have in common"
    steps: torch.Tensor
    "[1, t]: where each token stands in its text"
    sees: torch.Tensor
    "[count, longest, beginning + longest]: which tokens each one of a continuation sees"

    @property
    def positions(self) -> torch.Tensor:
        """[1, t]: where each token stands in its text."""
        return self.steps

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """What each token sees: ``q`` [1, t, n, h], ``k`` and ``v`` [1, t, m, h] -> [1, t, n · h]."""
        first = [for_all_heads(x[:, : self.beginning].transpose(1, 2), q.shape[2]) for x in (q, k, v)]
        own = [for_all_heads(self.apart(x[:, self.beginning :]), q.shape[2]) for x in (q, k, v)]
        both = [torch.cat([one.expand(self.count, -1, -1, -1), other], dim=2) for one, other in zip(first[1:], own[1:], strict=True)]
        rest = self.joined(attention(own[0], both[0], both[1], self.sees))
        return torch.cat([attention(*first).transpose(1, 2).flatten(2), rest], dim=1) if self.beginning else rest


def branched(prompts: Sequence[Tokens], tails: Sequence[Tokens], device: torch.device) -> tuple[torch.Tensor, Branches, torch.Tensor]:
    """``prompts`` that all go on with each of ``tails``, as one row [1, t], and in it the places [n, 1 + tails] of each prompt's last token and of its tails' last.

    Every beginning of a tail must be a tail too, before it.
    """
    common = takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    beginning = min(len(list(common)), min(map(len, prompts)) - 1)  # each has a token of its own
    own = [len(prompt) - beginning for prompt in prompts]
    lengths = [n + len(tails) for n in own]
    longest, size = max(lengths), len(tails)
    sees = torch.zeros(len(prompts), longest, beginning + longest, dtype=torch.bool)
    sees[:, :, :beginning] = True
    sees[:, :, beginning:] = torch.ones(longest, longest, dtype=torch.bool).tril()
    family = torch.tensor([[one[: len(other)] == other for other in tails] for one in tails], dtype=torch.bool).reshape(size, size)
    tokens, steps = list(prompts[0][:beginning]), list(range(beginning))
    places = torch.zeros(len(prompts), 1 + size, dtype=torch.long)
    for i, prompt in enumerate(prompts):
        sees[i, own[i] : lengths[i], beginning + own[i] : beginning + lengths[i]] = family
        places[i] = torch.arange(1 + size) + len(tokens) + own[i] - 1
        tokens += [*prompt[beginning:], *(tail[-1] for tail in tails)]
        steps += [*range(beginning, len(prompt)), *(len(prompt) + len(tail) - 1 for tail in tails)]
    where = Texts.of(lengths, device)
    branches = Branches(where.places, where.count, where.longest, beginning, torch.tensor([steps], device=device), sees.to(device))
    return torch.tensor([tokens], device=device), branches, places.to(device)
