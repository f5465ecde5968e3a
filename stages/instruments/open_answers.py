"""Free answers to an instrument's statements, whose stance a judge reads: agrees, disagrees, or neither.

The judge is a language model of one's own choice. It sees a statement and the text, never which model wrote it, and gives its probabilities over the
three stances, averaged over all orders in which they are listed. A stance has no strength: agreeing counts as the mean of the agreeing options,
so scores reach two thirds of the forced ones at most, and neither counts as the middle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.files import sha256
from stages.core.params import Section, parse, read_yaml
from stages.instruments import replies
from stages.instruments.instrument import Instrument
from stages.instruments.questionnaire import LETTERS
from stages.instruments.replies import Replies, Sampled, Texts
from stages.llm.interface import LanguageModel, Message, Prompt
from stages.llm.orders import choose_over_orders, rotations

PROMPT = Path("prompts/instruments/open.yaml")


class OpenAnswers(Sampled):
    """How answers are drawn and judged."""

    judge: Path | None
    "a GGUF file, or a YAML file that describes a server"
    judge_itself: bool
    "whether the judge may be the model that is measured"


class Stances(Section):
    """The options of the judge."""

    agree: str
    disagree: str
    neither: str


class Wording(Section):
    """The prompt file."""

    wording: str
    stances: Stances
    judge: str


@dataclass(frozen=True)
class _Pair:
    statement: str
    answer: str


def judge_of(settings: OpenAnswers, measured: Path) -> Path:
    """The judge's file.

    :raises InputError: if there is none, or if it is the model ``measured`` and must not judge itself.
    """
    if settings.judge is None:
        raise InputError("params.yaml: compass.open.judge: the arm `open` needs a judge. Name a GGUF file or a server's YAML file.")
    if not settings.judge.is_file():
        raise InputError(f"params.yaml: compass.open.judge: {settings.judge}: there is no such file. Name a GGUF file or a server's YAML file.")
    if not settings.judge_itself and sha256(settings.judge) == sha256(measured):
        raise InputError(f"params.yaml: compass.open.judge: {settings.judge} is the model that is measured. Name another one, or set judge_itself to true.")
    return settings.judge


def ask(model: LanguageModel, instrument: Instrument, settings: Sampled, seed: int) -> Texts:
    """Let a model write."""
    return replies.write(model, instrument, _wording().wording, settings, seed)


def read(judge: LanguageModel, instrument: Instrument, written: Sequence[Texts]) -> list[Replies]:
    """Let a judge read the stances of several models' texts together; refusals and empty texts have none.

    ``neither`` among the further measures is the probability that a readable text takes no side.
    """
    wording, k = _wording(), len(instrument.options)
    readable = [np.array([[bool(text) for text in texts] for texts in one.texts]) & ~one.refused for one in written]
    pairs = [
        _Pair(instrument.items[row].text, text)
        for one, there in zip(written, readable, strict=True)
        for row, texts, good in zip(one.rows, one.texts, there, strict=True)
        for text, is_good in zip(texts, good, strict=True)
        if is_good
    ]
    stances = _stances(judge, wording, pairs) if pairs else np.empty((0, 3))
    found, first = list[Replies](), 0
    for one, there in zip(written, readable, strict=True):
        ours = stances[first : first + there.sum()]
        first += len(ours)
        chances = np.full((*there.shape, k), np.nan)
        chances[there] = ours @ _spread(k)
        found.append(Replies(instrument, one, chances, {"neither": float(ours[:, 2].mean())} if len(ours) else {}))
    return found


def _stances(judge: LanguageModel, wording: Wording, pairs: Sequence[_Pair]) -> NDArray[np.float64]:
    """Probabilities of agree, disagree and neither, [n, 3]."""
    options = (wording.stances.agree, wording.stances.disagree, wording.stances.neither)

    def prompts(labels: Sequence[str]) -> list[Prompt]:
        listed = "\n".join(f"{letter}) {label}" for letter, label in zip(LETTERS, labels, strict=False))
        template = Template(wording.judge)
        return [(Message("user", template.substitute(statement=pair.statement, answer=pair.answer, options=listed)),) for pair in pairs]

    return choose_over_orders(judge, prompts, options, rotations(3), LETTERS[:3])[0]


def _spread(k: int) -> NDArray[np.float64]:
    """How agree, disagree and neither are distributed over ``k`` options, [3, k]: evenly over those that agree, those that disagree, and all."""
    half = k // 2
    found = np.zeros((3, k))
    found[0, -half:] = found[1, :half] = 1 / half
    found[2] = 1 / k
    return found


def _wording() -> Wording:
    return parse(Wording, read_yaml(PROMPT), str(PROMPT))
