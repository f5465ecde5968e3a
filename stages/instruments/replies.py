"""Answers that a model writes to an instrument's statements, once they are read: what the sampled ways of asking share.

Not every text can be read as an answer. What could not, and what refused to, is counted, and left out of the scores.
"""

from dataclasses import dataclass, field
from string import Template

import numpy as np
import pydantic
from numpy.typing import NDArray

from stages.core.params import Section
from stages.core.results import Figures
from stages.instruments.consistency import sides
from stages.instruments.instrument import Instrument
from stages.instruments.questionnaire import spaced
from stages.llm.interface import LanguageModel, Message, Sampling, several
from stages.llm.writing import REFUSAL
from stages.statistics.bootstrap import estimate, nested


class Sampled(Section):
    """How answers are drawn."""

    repeats: int = pydantic.Field(ge=1)
    statements: int = pydantic.Field(ge=1)
    "how many are asked, as many of each axis and direction as possible"
    max_tokens: int = pydantic.Field(ge=1)
    temperature: float = pydantic.Field(ge=0)
    top_k: int = pydantic.Field(ge=0)


@dataclass(frozen=True)
class Texts:
    """What a model wrote."""

    rows: NDArray[np.int64]
    "[n], the instrument's items that were asked"
    texts: list[list[str]]
    "[n][repeats]"

    @property
    def refused(self) -> NDArray[np.bool_]:
        """[n, repeats], whether the model declined to answer."""
        return np.array([[bool(REFUSAL.search(text)) for text in texts] for texts in self.texts])


@dataclass(frozen=True)
class Replies:
    """Texts and what was read from them."""

    instrument: Instrument
    written: Texts
    chances: NDArray[np.float64]
    "[n, repeats, k], how the answer is distributed over the options; NaN where none could be read"
    further: dict[str, float] = field(default_factory=dict)
    "measures of this way of asking alone"

    @property
    def answered(self) -> NDArray[np.bool_]:
        """[n, repeats]."""
        found: NDArray[np.bool_] = np.asarray(np.isfinite(self.chances).all(axis=2), dtype=np.bool_)
        return found

    @property
    def values(self) -> NDArray[np.float64]:
        """[n, repeats], -1..1: strongly disagree to strongly agree; NaN where no answer could be read."""
        found: NDArray[np.float64] = self.chances @ spaced(self.chances.shape[2])
        return found

    def figures(self, forced: NDArray[np.float64], min_valid: float, seed: int) -> dict[str, Figures | float | str]:
        """``valid``, ``refused`` and ``unreadable``, shares of all texts; each axis with its interval; and ``contradicts``, the share of statements on which the
        mean answer takes the other side than that of ``forced`` [items, wordings], of those on which both take one.

        No placement if the share that could be read is below ``min_valid``.
        """
        refused = self.written.refused & ~self.answered
        valid = float(self.answered.mean())
        found: dict[str, Figures | float | str] = {"valid": valid, "refused": float(refused.mean()), "unreadable": 1 - valid - float(refused.mean()), **self.further}
        read = self.answered.any(axis=1)
        ours = sides(np.array([row[there].mean() for row, there in zip(self.values[read], self.answered[read], strict=True)]))
        both = ours * sides(forced[self.written.rows[read]].mean(axis=1))
        if both.any():
            found["contradicts"] = float((both < 0).sum() / (both != 0).sum())
        if valid < min_valid or not valid:
            return found | {"unplaced": "valid"}
        everything = np.full((len(self.instrument.items), *self.chances.shape[1:]), np.nan)
        everything[self.written.rows] = self.chances
        for axis in self.instrument.axes:
            values, directions = self.instrument.keyed(everything, axis)
            there = np.isfinite(values).any(axis=1)
            if there.any():
                found[axis] = estimate(nested(values[there]), directions[there], seed).within(*self.instrument.bounds(axis)).figures()
        return found


def chosen(instrument: Instrument, n: int) -> NDArray[np.int64]:
    """Rows of ``n`` statements, in turn from each kind: those that the answers move on the same axes in the same directions."""
    directions = np.stack([np.sign(points[:, -1] - points[:, 0]) for points in map(instrument.points, instrument.axes)], axis=1)
    kinds = np.unique(directions, axis=0, return_inverse=True)[1].reshape(-1)
    turn = np.array([(kinds[:i] == kind).sum() for i, kind in enumerate(kinds)])  # how many of its kind come before it
    return np.sort(np.lexsort((np.arange(len(turn)), kinds, turn))[:n])


def write(model: LanguageModel, instrument: Instrument, wording: str, settings: Sampled, seed: int) -> Texts:
    """Let a model answer statements in ``wording``, a template with ``$statement`` and, if it wants one, the ``$scale`` of numbered options."""
    rows = chosen(instrument, settings.statements)
    scale = "\n".join(f"{i} = {label}" for i, label in enumerate(instrument.options))
    prompts = [(Message("user", Template(wording).substitute(statement=instrument.items[i].text, scale=scale)),) for i in rows]
    sampling = Sampling(settings.max_tokens, settings.temperature, top_k=settings.top_k, seed=seed)
    return Texts(rows, [[completion.text.strip() for completion in answers] for answers in several(model, prompts, sampling, settings.repeats)])
