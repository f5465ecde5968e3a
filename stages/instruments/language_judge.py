"""A language model as judge: the expected value of its answer over the scores 0 to 20, without sampling.

What keeps a text from instructing the judge: its score is read from probabilities of fixed answers, chat markers in it are broken
(:meth:`stages.llm.tokenizer.Tokenizer.render`), sentences that speak to whoever rates it are taken out, and the prompt says what they are.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.instruments.judges import HIGH, LOW, Answer
from stages.llm import prompts
from stages.llm.injection import ADDRESS, PART
from stages.llm.interface import LanguageModel, Prompt, choices
from stages.llm.prompts import Task

PROMPT = Path("prompts/judge.yaml")
ASKED, ALONE = "asked", "alone"
"The prompt's wordings for answers to a question and for texts without one."
SCORE = r"(?:1?\d|20)\b(?!\.\d|\s*(?:%|percent|per\s?cent|cents?\b|dollars?\b|years?\b|weeks?\b))"
ORDERS = re.compile(
    rf"""
    \b{ADDRESS}
    | \b(?:ignore|disregard|forget)\b[^.!?]{{0,40}}\b(?:above|previous|earlier|instructions?|rubric|directions|prompt)\b
    | \b(?:score|rating|grade|mark|answer)\b["”']?\s*(?:(?:is|as|it|this|of|should\sbe|must\sbe)\s+|=\s*|:\s*)+["“']?{SCORE}
    | \b(?:rate|score|grade|mark|label|place)\s(?:it|this|them|me|my|the\s(?:text|statement|answer|above))\b[^.!?]{{0,25}}{SCORE}
    | \b(?:output|answer|reply|respond|return|write)\b[^.!?]{{0,25}}\b(?:only|just|with)\b[^.!?]{{0,25}}{SCORE}
    | \bfinal\sanswer\b | \b(?:scoring|rating)\s(?:policy|scale|session|complete|instructions?)\b | \b(?:dear|attention|note\sto\s(?:the|all))\s(?:ai|judges?|model)\b
    | (?:^|\[|\#\s*)SYSTEM\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
"Sentences that tell a judge what to answer. Texts on politics are full of rates, marks and numbers, so this asks for more than what is taken out of posts."


def load(path: Path = PROMPT) -> Task:
    """The judge's prompt.

    :raises InputError: if it cannot be used, or its options are not the scores.
    """
    task = prompts.load(path)
    if list(task.options) != [str(score) for score in range(int(LOW), int(HIGH) + 1)]:
        raise InputError(f"{path}: options: these must be the whole numbers 0 to 20, in order, in quotation marks.")
    return task


class LanguageJudge:
    """Reads scores from what a model would answer."""

    def __init__(self, model: LanguageModel, task: Task, max_characters: int, min_valid: float) -> None:
        """The model sees the first ``max_characters`` of a text; below a probability of ``min_valid`` for any score at all it could not tell."""
        self._model, self._task, self._max_characters, self._min_valid = model, task, max_characters, min_valid

    def score(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """See :class:`stages.instruments.judges.Judge`."""
        found = choices(self._model, [self._ask(answer) for answer in answers], self._task.options)
        probabilities = np.array([choice.probabilities for choice in found]).reshape(len(answers), -1)  # [n, 21]
        mass = np.array([choice.mass for choice in found])
        return np.where(mass >= self._min_valid, probabilities @ np.arange(LOW, HIGH + 1), np.nan)

    def _ask(self, answer: Answer) -> Prompt:
        statement = {"statement": shown(answer.text, self._max_characters)}
        return self._task.render(ASKED, statement | {"question": answer.question}) if answer.question else self._task.render(ALONE, statement)


def shown(text: str, length: int) -> str:
    """What a judge sees of a text: its first ``length`` characters, without the sentences that tell it how to judge."""
    kept = "".join(part for part in PART.findall(text) if not ORDERS.search(part)) if ORDERS.search(text) else text
    return kept.strip()[:length]
