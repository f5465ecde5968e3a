"""What tuning on survey answers minimises: L = α·performance + β·fairness + γ·adversarial.

Everything is read off q, a model's probabilities over the options of one item, in the order of its scale. They are what
:meth:`stages.llm.interface.LanguageModel.choose` measures: the next-token probabilities of the options' letters, divided by their sum.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, assert_never

import torch
from torch import nn
from torchtune.modules import TransformerDecoder

from stages.tuning.architecture import hidden_states

Distance = Literal["kl", "wasserstein"]


def answer_states(model: TransformerDecoder, prompts: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """The states [n, d] from which a model answers ``prompts``, each the tokens of a chat up to the answer."""
    tokens = torch.zeros(len(prompts), max(map(len, prompts)), dtype=torch.long)
    for i, prompt in enumerate(prompts):
        tokens[i, : len(prompt)] = torch.tensor(prompt)
    last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
    return hidden_states(model, tokens.to(device))[torch.arange(len(prompts), device=device), last].float()


def option_log_probabilities(model: TransformerDecoder, states: torch.Tensor, marks: Sequence[int], orders: torch.Tensor) -> torch.Tensor:
    """Options' log-probabilities, log q [n, k], in the order of the scale, from ``states`` [n, d].

    ``marks`` [k] are the tokens of the letters, ``orders`` [n, k] the place on the scale of the option at each letter. Products are taken in float32
    also where the rest of the model computes in bfloat16, which would round log-probabilities to steps of .06 and more.
    """
    output = (model.tok_embeddings if model.output.__class__.__name__ == "TiedLinear" else model.output).weight
    rows = output[torch.tensor(marks, device=states.device)].float()  # [k, d]
    shown = (states[:, None, :] * rows).sum(dim=-1).log_softmax(dim=-1)  # [n, k], by letter
    return torch.gather(shown, 1, orders.argsort(dim=1))


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
        known = labels >= 0
        if not known.any():
            return states.new_zeros(()), states.new_zeros(())
        reversed_states: torch.Tensor = Reversal.apply(states[known])  # type: ignore[no-untyped-call]  # torch does not annotate it
        scores = self.head(reversed_states).float()
        return nn.functional.cross_entropy(scores, labels[known]), (scores.argmax(dim=1) == labels[known]).float().mean()
