"""What tuning minimises."""

from collections.abc import Sequence
from typing import Any

import torch
from torchtune.modules import TransformerDecoder
from torchtune.rlhf.loss import DPOLoss

from stages.tuning import distributed
from stages.tuning.data import Batch, Sample, joined

LOGITS = 256 * 49152  # that exist at once: 50 MB in float32, however long the samples and however large the vocabulary


def chunk_size(vocabulary: int, device: str) -> int:
    """How many tokens have logits at once; a GPU is only filled by more of them."""
    return max(16, LOGITS * (4 if device == "cuda" else 1) // vocabulary)


def logits_at_once(vocabulary: int, device: str) -> int:
    """How many logits exist at once."""
    return chunk_size(vocabulary, device) * vocabulary


class TokenLogProbability(torch.autograd.Function):
    """Log-probability of target tokens under a frozen output layer, without ever holding all logits.

    With logits z = h Wᵀ and p = softmax(z), log p_y has the gradient W_y - p W with respect to h. It is computed in the forward pass while the
    logits of a chunk are at hand, so the output layer is passed twice, and not a third time for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, h: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """``h`` [t, d], ``weight`` [v, d], ``targets`` [t] -> [t] in float32."""
        found = torch.empty(len(h), dtype=torch.float32, device=h.device)
        trains = ctx.needs_input_grad[0]
        gradient = torch.empty_like(h) if trains else None
        size = chunk_size(len(weight), h.device.type)
        for first in range(0, len(h), size):
            rows = slice(first, first + size)
            logits = (h[rows] @ weight.T).float()  # [c, v]
            target = targets[rows, None]
            logits -= logits.amax(dim=1, keepdim=True)
            wanted = logits.gather(1, target)
            shares = logits.exp_()  # in place, as all that passes over them: p times their total
            total = shares.sum(dim=1, keepdim=True)
            found[rows] = (wanted - total.log())[:, 0]
            if gradient is not None:
                shares.scatter_add_(1, target, -total)
                gradient[rows] = (shares.to(weight.dtype) @ weight).div_(-total)
        ctx.save_for_backward(gradient)
        return found

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """``upstream`` [t] -> gradient of ``h`` [t, d]."""
        (gradient,) = ctx.saved_tensors
        return upstream[0][:, None].to(gradient.dtype) * gradient, None, None


def token_log_probabilities(model: TransformerDecoder, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of every target token, [n], and the sample each belongs to, [n].

    Logits are computed for target positions only: prompts cost no pass through the output layer.
    """
    looked_at = batch.targets >= 0  # [1, t]
    states = distributed.states(model, batch.tokens, batch.texts)  # [1, t, d]
    weight = (model.tok_embeddings if model.output.__class__.__name__ == "TiedLinear" else model.output).weight
    h = states[looked_at].to(weight.dtype)  # [n, d]
    values = TokenLogProbability.apply(h, weight, batch.targets[looked_at])  # type: ignore[no-untyped-call]  # torch does not annotate it
    return values, batch.owners[looked_at]


def sample_log_probabilities(model: TransformerDecoder, samples: Sequence[Sample], device: torch.device) -> torch.Tensor:
    """Log-probability of each sample's answer given its prompt, [b]."""
    values, sample = token_log_probabilities(model, joined(samples, device))
    return torch.zeros(len(samples), device=values.device).index_add(0, sample, values)


def preference_loss(policy: torch.Tensor, reference: torch.Tensor, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, equation 7): losses and reward margins, each [n].

    ``policy`` and ``reference`` [2n]: log-probabilities of the chosen answers, then of the rejected ones.

        loss = -log sigmoid(margin),  margin = β (log π(chosen)/π_ref(chosen) - log π(rejected)/π_ref(rejected))
    """
    chosen, rejected = policy.chunk(2)
    reference_chosen, reference_rejected = reference.chunk(2)
    losses, chosen_reward, rejected_reward = DPOLoss(beta)(chosen, rejected, reference_chosen, reference_rejected)
    return losses, chosen_reward - rejected_reward
