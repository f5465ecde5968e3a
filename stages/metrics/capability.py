"""Capability: what tuning does to knowledge, reasoning and fluency, for the base and the last checkpoint of every adapter.

in   models/base/, models/adapters/, prompts/instruments/capability.yaml, metrics/answers/judge.parquet
out  metrics/capability.json: <adapter> -> accuracy (share of questions answered rightly), probability (mean probability of the right option), valid
     (mean probability of giving any option), perplexity (on plain sentences), and, of the open answers, repetition, distinct_1, distinct_2, refusals,
     words; chance -> accuracy of a model that picks at random

A question is put without its options, and the model's answer is distributed over them, without sampling: an order of options, which small models follow
more than the question, plays no part. Perplexity is exp of minus the mean log-probability of a token, each sentence being an answer to one and the same
request: all sentences are the options of one choice, whose probabilities are what the model gives each of them.
"""

import math
import re
from pathlib import Path
from string import Template
from typing import Literal

import numpy as np
import pandas as pd
import pydantic

from stages.core import command, params, results, tables
from stages.core.errors import InputError
from stages.core.params import Section, parse, read_yaml
from stages.core.results import Figures
from stages.instruments import fluency
from stages.instruments.ids import Differing
from stages.llm.interface import LanguageModel, Message, choices, in_order
from stages.llm.local import Measuring, measured_model
from stages.llm.tokenizer import Tokenizer
from stages.metrics.judge import ANSWERS
from stages.statistics.bootstrap import estimate
from stages.tuning.checkpoints import Checkpoint, adapter_names, checkpoints, final

PROMPT = Path("prompts/instruments/capability.yaml")
OPTIONS = 4


class Question(Section):
    """One multiple-choice question."""

    id: str
    kind: Literal["knowledge", "reasoning"]
    text: str
    options: tuple[str, ...] = pydantic.Field(min_length=OPTIONS, max_length=OPTIONS)
    answer: str

    @pydantic.model_validator(mode="after")
    def _answer_is_an_option(self) -> "Question":
        if self.answer not in self.options or len(set(self.options)) < len(self.options):
            raise ValueError(f"question {self.id}: its answer must be one of its options, which must differ")
        return self


class Test(Section):
    """The file of questions."""

    __test__ = False  # not one of pytest's

    wording: str
    questions: Differing[tuple[Question, ...]]
    request: str
    neutral: tuple[str, ...] = pydantic.Field(min_length=1)
    refusal: str

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Test":
        try:
            re.compile(self.refusal)
        except re.error as error:
            raise ValueError(f"refusal is no regular expression: {error}") from error
        return self


class Params(Section):
    """``params.yaml: capability``."""

    questions: int = pydantic.Field(ge=1)
    seed: int


def load(path: Path) -> Test:
    """Read and check a file of questions."""
    return parse(Test, read_yaml(path), str(path))


def knowledge(model: LanguageModel, test: Test, settings: Params) -> dict[str, Figures | float]:
    """Accuracy with its interval over questions, the mean probability of the right option, and that of giving any; on the first ``settings.questions``."""
    asked = test.questions[: settings.questions]
    prompts = [(Message("user", Template(test.wording).substitute(question=question.text)),) for question in asked]
    answers = in_order(model.choose(prompts, [question.options for question in asked]), len(asked))
    probabilities = np.array([answer.probabilities for answer in answers])  # [questions, 4]
    right = np.array([[question.options.index(question.answer)] for question in asked])  # [questions, 1]
    hits = (probabilities.argmax(axis=1, keepdims=True) == right).astype(float)
    chances = np.take_along_axis(probabilities, right, axis=1)
    strata = np.zeros(len(asked), dtype=np.int64)
    return {
        "accuracy": estimate(hits, strata, settings.seed).within(0, 1).figures(),
        "probability": estimate(chances, strata, settings.seed).within(0, 1).figures(),
        "valid": float(np.mean([answer.mass for answer in answers])),
    }


def perplexity(model: LanguageModel, tokenizer: Tokenizer, test: Test) -> dict[str, float]:
    """Perplexity of the plain sentences; none if the model gives one of them a probability too small for a floating-point number."""
    (choice,) = choices(model, [(Message("user", test.request),)], test.neutral)
    each = np.array(choice.probabilities) * choice.mass  # [texts], at least 1e-308 where a token of 60 has one of 1e-5
    if not each.all():
        return {}
    tokens = sum(len(tokenizer.tokens(text, special=False)) for text in test.neutral)
    return {"perplexity": math.exp(-float(np.log(each).sum()) / tokens)}


def written(answers: pd.DataFrame, point: Checkpoint, refusal: str) -> dict[str, float]:
    """Repetition, variety, refusals and length of a model's open answers.

    :raises InputError: if there are none.
    """
    texts = answers.loc[(answers["adapter"] == point.adapter) & (answers["step"] == point.step), "text"].tolist()
    if not texts:
        raise InputError(f"metrics/answers/judge.parquet: holds no answer of {point.adapter} at step {point.step}. Run `dvc repro judge`.")
    return {
        "repetition": fluency.repetition(texts),
        "distinct_1": fluency.distinct(texts, 1),
        "distinct_2": fluency.distinct(texts, 2),
        "refusals": fluency.refusals(texts, re.compile(refusal)),
        "words": float(np.mean([len(fluency.words(text)) for text in texts])),
    }


def main(base: Path, adapters: Path, answers: Path, target: Path) -> None:
    """Test every model."""
    settings, measuring = params.load("capability", Params), params.load("measuring", Measuring)
    study, test = params.load_study(), load(PROMPT)
    open_answers: pd.DataFrame = tables.read(answers, ANSWERS).to_pandas()
    points = final(checkpoints(adapters, adapter_names(study)))
    fluent = {point: written(open_answers, point, test.refusal) for point in points}  # first, as it may find that answers are missing
    found: dict[str, Figures] = {"chance": {"accuracy": 1 / OPTIONS}}
    total = len(points) * (len(test.questions[: settings.questions]) + 1)
    with measured_model(base / "model.gguf", measuring.context, "capability", total) as (engine, model):
        for point in points:
            engine.attach(point.file)
            found[point.adapter] = {**knowledge(model, test, settings), **perplexity(model, engine.tokenizer, test), **fluent[point]}
    results.write_metrics(target, found)


if __name__ == "__main__":
    command.run(main)
