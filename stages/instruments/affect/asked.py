"""Affect told by a language model, which answers yes or no for each label.

Probabilities are read without sampling. Where the prompt file has texts without content, a label's odds are divided by the mean odds for those (Zhao et al.
2021): what the model answers to nothing is a score of 1/2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.core.errors import InputError
from stages.instruments.affect.classifier import Floats
from stages.llm.injection import shown
from stages.llm.interface import LanguageModel, choices
from stages.llm.prompts import Task

LEAST = 1e-6


@dataclass(frozen=True)
class Asked:
    """A model and the prompt that it is asked with: options yes and no in this order, a wording for each label."""

    labels: tuple[str, ...]
    model: LanguageModel
    task: Task
    max_characters: int
    "of a text that are shown"

    def scores(self, texts: Sequence[str]) -> Floats:
        """See :class:`stages.instruments.affect.classifier.Classifier`.

        :raises InputError: if the prompt has other than two options.
        """
        if len(self.task.options) != 2:
            raise InputError("the prompt of an affect classifier needs two options under `options`: yes, then no.")
        asked = [*(shown(text, self.max_characters) for text in texts), *self.task.neutral]
        prompts = [self.task.render(label, {"post": text}) for text in asked for label in self.labels]
        answers = choices(self.model, prompts, self.task.options)
        yes = np.clip(np.array([answer.probabilities[0] for answer in answers]).reshape(len(asked), len(self.labels)), LEAST, 1 - LEAST)
        odds = np.log(yes / (1 - yes))
        if self.task.neutral:
            odds = odds[: len(texts)] - odds[len(texts) :].mean(axis=0)
        return np.asarray(1 / (1 + np.exp(-odds)))
