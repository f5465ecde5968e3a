"""Whether a model's answers to a questionnaire hold: between wordings, between orders of the options, and between a statement and its opposite."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from stages.core.results import Figures
from stages.instruments.questionnaire import Answers, spaced
from stages.statistics.bootstrap import Estimate, estimate
from stages.statistics.reliability import split_half
from stages.statistics.undefined import Undefined

UNDECIDED = 1e-6
"answers nearer to the middle than this take no side: what is left of exact cancellation"


def sides(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """-1 for disagreement, 1 for agreement, 0 for neither."""
    return np.where(np.abs(values) < UNDECIDED, 0, np.sign(values)).astype(np.int64)


def flips(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each statement, the share of pairs of wordings in which one agrees and the other disagrees, [items]; ``values`` [items, wordings].

    Unlike the share of statements that flip in any of the wordings, its expectation does not depend on how many wordings there are.

    :raises ValueError: if there is only one wording.
    """
    taken = sides(values)
    both = list(combinations(range(values.shape[1]), 2))
    if not both:
        raise ValueError("flips between wordings need at least two of them")
    found: NDArray[np.float64] = np.mean([taken[:, i] * taken[:, j] < 0 for i, j in both], axis=0)
    return found


def order_effect(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each answer depends on the order of the options, [items, wordings]: 0 not at all, 1 for a model that picks by place alone.

    Half the distance between the answers in both orders; ``chances`` [items, wordings, 2, k].
    """
    values = chances @ spaced(chances.shape[-1])
    distances: NDArray[np.float64] = np.abs(values[:, :, 0] - values[:, :, 1])
    return distances / 2


def acquiescence(values: NDArray[np.float64], opposites: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean answer to a position and its opposite, [pairs, wordings], -1..1: 0 if they are consistent, 1 if both are strongly agreed with.

    ``opposites`` [pairs, 2]: rows of ``values`` [items, wordings].
    """
    found: NDArray[np.float64] = values[opposites].mean(axis=1)
    return found


def figures(answers: Answers, opposites: NDArray[np.int64], seed: int) -> dict[str, Figures | float]:
    """The consistency of one model's answers; measures that are undefined are left out.

    ``flip_rate`` with its interval over statements and ``flipped``, the share of statements that flip in any wording; ``order_effect``;
    ``acquiescence`` with its interval over pairs and wordings, ``both_agreed`` and ``both_rejected``, the shares of pairs met with the same side;
    ``reliability``, split half over the wordings, of the answers to single statements.
    """
    values = answers.values
    found: dict[str, Figures | float] = {"order_effect": float(order_effect(answers.chances).mean())}
    if values.shape[1] > 1:
        by_item = flips(values)
        found |= {"flip_rate": _over_rows(by_item[:, None], seed).within(0, 1).figures(), "flipped": float((by_item > 0).mean())}
    if len(opposites):
        taken = sides(values)[opposites]  # [pairs, 2, wordings]
        found["acquiescence"] = _over_rows(acquiescence(values, opposites), seed).within(-1, 1).figures()
        found |= {"both_agreed": float((taken > 0).all(axis=1).mean()), "both_rejected": float((taken < 0).all(axis=1).mean())}
    reliability = split_half(values, seed)
    return found if isinstance(reliability, Undefined) else {**found, "reliability": reliability}


def _over_rows(values: NDArray[np.float64], seed: int) -> Estimate:
    return estimate(values, np.zeros(len(values), dtype=np.int64), seed)
