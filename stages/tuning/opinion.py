"""What tuning on survey answers minimises: L = α·(performance + reluctance) + β·fairness + γ·adversarial.

Everything is read off q, a model's probabilities over the options of one item, in the order of its scale. They are what
:meth:`stages.llm.interface.LanguageModel.choose` measures: the probability of each option's words, divided by the sum over options.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, assert_never

import torch
from torch import nn
from torchtune.modules import TransformerDecoder

from stages.llm.options import OptionTree
from stages.tuning import distributed
from stages.tuning.branches import branched
from stages.tuning.losses import TokenLogProbability

Distance = Literal["kl", "wasserstein"]


def answer_states(model: TransformerDecoder, prompts: Sequence[Sequence[int]], tree: OptionTree, device: torch.device) -> torch.Tensor:
    """The states [n, m, d] from which a model goes on after each of ``prompts`` (tokens up to the answer) and each beginning of an option.

    Beginnings are in the order of :func:`beginnings`, the empty one first. What prompts have in common is evaluated once, and equal ones are too.
    """
    known = {prompt: i for i, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    tokens, branches, places = branched(list(known), beginnings(tree)[1:], device)
    h = distributed.states(model, tokens, branches)[0]  # [t, d]
    return h[places[[known[tuple(prompt)] for prompt in prompts]]]


def beginnings(tree: OptionTree) -> list[tuple[int, ...]]:
    """What options begin with, after which a further token's probability is wanted; the empty beginning first."""
    return sorted(tree.wanted)


def option_log_probabilities(model: TransformerDecoder, states: torch.Tensor, tree: OptionTree, ending: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Options' log-probabilities from the states [n, m, d] of :func:`answer_states`: log q [n, k], in the order of the ``tree``'s options, and ln M [n].

    An option's probability is the product of its tokens', among all that the model could say; where it begins another option, of an ``ending`` token
    there as well. M is their sum, how willing the model is to give any of the options, and q divides by it.
    """
    weight = (model.tok_embeddings if model.output.__class__.__name__ == "TiedLinear" else model.output).weight
    places = {node: i for i, node in enumerate(beginnings(tree))}
    steps = [(beginning, token) for beginning, tokens in tree.wanted.items() for token in sorted(tokens)]
    rows = states[:, [places[beginning] for beginning, _ in steps]]  # [n, t, d]
    targets = torch.tensor([token for _, token in steps], device=states.device).repeat(len(states))
    flat = TokenLogProbability.apply(rows.flatten(0, 1).to(weight.dtype), weight, targets)  # type: ignore[no-untyped-call]  # torch does not annotate it
    found = dict(zip(steps, flat.view(len(states), len(steps)).unbind(dim=1), strict=True))
    whole = []
    for option in tree.options:
        total = torch.stack([found[option[:i], token] for i, token in enumerate(option)]).sum(dim=0)
        begins_another = option in tree.wanted
        whole.append(total + torch.stack([found[option, token] for token in ending]).logsumexp(dim=0) if begins_another else total)
    together = torch.stack(whole, dim=1)
    return together.log_softmax(dim=1), together.logsumexp(dim=1)


def performance(log_q: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, distance: Distance) -> torch.Tensor:
    """How far answers are from their targets: P = 1/n Σ_i w_i D(p_i, q_i), for ``log_q`` and ``targets`` p [n, k] and survey ``weights`` w [n] of mean 1.

    - ``kl``: D = Σ_o p_o ln(p_o / q_o), forward. If p is the one answer y that a respondent gave, it is the cross-entropy -ln q_y; if p is how the
      respondent's group answers, it is what SubPOP minimises (Suh et al. 2025, arXiv 2502.16761).
    - ``wasserstein``: D = 1/(k-1) Σ_{o<k} |Σ_{j≤o} (p_j - q_j)|, which knows that options have an order.
    """
    if distance == "kl":
        each = (torch.xlogy(targets, targets) - targets * log_q).sum(dim=-1)
    elif distance == "wasserstein":
        each = (targets - log_q.exp()).cumsum(dim=-1)[:, :-1].abs().mean(dim=-1)
    else:
        assert_never(distance)
    return (weights * each).mean()


def reluctance(log_mass: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """How reluctant a model is to answer with an option at all: R = 1/n Σ_i -w_i ln M_i, from ``log_mass`` ln M and survey ``weights`` w [n].

    Without it q could be right while the model would say something else. With ``kl``, P + R is the cross-entropy of whole answers but for the
    entropy of the targets, which no training changes.
    """
    return -(weights * log_mass).mean()


def parity_gap(log_q: torch.Tensor, weights: torch.Tensor, groups: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """How much wider or narrower groups lie apart in predicted than in real answers to one item.

    F = mean over pairs of groups g < h of 1/k Σ_o ((q̄_go - q̄_ho) - (p_go - p_ho))²

    q̄_g [k] is the weighted mean of q over the respondents of group g in ``groups`` [n] (-1: in none), p_g their real answers in ``real`` [g, k].
    Plain demographic parity would pull q̄_g - q̄_h to 0 and flatten groups that do differ. 0 where fewer than two groups occur. The mean of a few
    respondents strays from that of its group, so the more are compared at once, the less F is overestimated.
    """
    found = [(g, groups == g) for g in sorted(set(groups.tolist()) - {-1})]
    if len(found) < 2:
        return log_q.new_zeros(())
    q = log_q.exp()
    error = torch.stack([(weights[members, None] * q[members]).sum(dim=0) / weights[members].sum() - real[g] for g, members in found])  # [g, k]: q̄_g - p_g
    pairs = torch.tensor(list(combinations(range(len(found)), 2)), device=error.device)
    return (error[pairs[:, 0]] - error[pairs[:, 1]]).square().mean()


class Reversal(torch.autograd.Function):
    """The identity whose gradient has the opposite sign (Ganin and Lempitsky 2015, arXiv 1409.7495)."""

    @staticmethod
    def forward(ctx: Any, h: torch.Tensor) -> torch.Tensor:
        """``h`` as it is."""
        return h.view_as(h)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> torch.Tensor:
        """The negative of what comes from above."""
        return -upstream[0]


class Adversary(nn.Module):
    """A linear head that learns to read an attribute of the respondent off the state that the model answers from.

    A = mean of -ln softmax(W h_i + b)_{a_i} over the respondents whose attribute a is known. The head descends on A. Behind the reversal the model
    ascends on it: it learns states that do not give away what the persona did not state.
    """

    def __init__(self, width: int, labels: int) -> None:
        """``width`` of the states, number of ``labels`` of the attribute."""
        super().__init__()
        self.head = nn.Linear(width, labels)

    def forward(self, states: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``states`` [n, d], ``labels`` [n] (-1: not known) -> A and the share that the head reads rightly; both 0 if no label is known."""
        reversed_states: torch.Tensor = Reversal.apply(states)  # type: ignore[no-untyped-call]  # torch does not annotate it
        with torch.autocast(states.device.type, enabled=False):
            scores = self.head(reversed_states)
        n = (labels >= 0).sum().clamp(min=1)
        return nn.functional.cross_entropy(scores, labels, ignore_index=-1, reduction="sum") / n, (scores.argmax(dim=1) == labels).sum() / n
