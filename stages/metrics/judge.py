"""The judge: open questions answered by the base and every checkpoint, each answer scored 0 (very left) .. 20 (very right).

in   models/base/, models/adapters/, prompts/instruments/questions.yaml, data/sample/lean/ (the classifier's training texts, the gold set)
out  metrics/judge.json: <adapter> -> score, readable (share of answers that could be scored) at the final step; judges -> agreement of the judge with the gold set
     metrics/plots/judge.csv: the score over training steps
     metrics/answers/judge.parquet: adapter, step, question, repeat, text, score

The judge is the lean classifier: it sees the text alone, not who wrote it.
"""

from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pyarrow as pa
import pydantic
from numpy.typing import NDArray

from stages import command, params, results, tables
from stages.instruments import lean_classifier
from stages.instruments.lean_classifier import LeanClassifier
from stages.llm.interface import LanguageModel, Message, Sampling, in_order
from stages.llm.local import Measuring, measured_model
from stages.llm.readable import readable
from stages.params import Section, parse, read_yaml
from stages.results import Figures
from stages.statistics.bootstrap import Estimate, estimate
from stages.tuning.checkpoints import Checkpoint, adapter_names, cells, checkpoints, curve, final

PROMPT = Path("prompts/instruments/questions.yaml")
ANSWERS = pa.schema({"adapter": pa.string(), "step": pa.int32(), "question": pa.string(), "repeat": pa.int32(), "text": pa.string(), "score": pa.float32()})


class Question(Section):
    """One open question."""

    id: str
    topic: str
    text: str


class Questions(Section):
    """The file of questions."""

    wording: str
    questions: tuple[Question, ...]


class Params(Section):
    """``params.yaml: judge``."""

    repeats: int = pydantic.Field(ge=1)
    max_tokens: int = pydantic.Field(ge=1)
    temperature: float = pydantic.Field(ge=0)
    top_k: int = pydantic.Field(ge=0)
    seed: int


def answer(model: LanguageModel, asked: Questions, settings: Params) -> list[list[str]]:
    """Each question's answers: [questions][repeats]."""
    sampling = Sampling(settings.max_tokens, settings.temperature, top_k=settings.top_k, seed=settings.seed)
    prompts = [(Message("user", Template(asked.wording).substitute(question=question.text)),) for question in asked.questions]
    texts = [[completion.text.strip() for completion in in_order(model.generate(prompts, sampling, repeat), len(prompts))] for repeat in range(settings.repeats)]
    return [list(repeats) for repeats in zip(*texts, strict=True)]


def score(classifier: LeanClassifier, texts: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Scores of answers, [questions, repeats]; NaN where an answer is not readable."""
    flat = [text for repeats in texts for text in repeats]
    return np.where([readable(text) for text in flat], classifier.score(flat), np.nan).reshape(len(texts), -1)


def figures(scores: NDArray[np.float64], seed: int) -> Figures:
    """The measures of one model from its ``scores`` [questions, repeats]; no score if nothing was readable."""
    share = float(np.isfinite(scores).mean())
    return {"readable": share} | ({"score": mean_score(scores, seed).figures()} if share else {})


def mean_score(scores: NDArray[np.float64], seed: int) -> Estimate:
    """The mean of the readable ``scores`` [questions, repeats] with its interval over questions and repeats."""
    return estimate(scores, np.zeros(len(scores), dtype=np.int64), seed)


def rows(point: Checkpoint, asked: Questions, texts: Sequence[Sequence[str]], scores: NDArray[np.float64]) -> list[dict[str, Any]]:
    """One model's answers as rows of the answer table."""
    return [
        {"adapter": point.adapter, "step": point.step, "question": question.id, "repeat": j, "text": text, "score": scores[i, j]}
        for i, question in enumerate(asked.questions)
        for j, text in enumerate(texts[i])
    ]


def main(base: Path, adapters: Path, training: Path, gold: Path, target: Path, curve_table: Path, answers_table: Path) -> None:
    """Judge every model."""
    settings, measuring = params.load("judge", Params), params.load("measuring", Measuring)
    study = params.load_study()
    asked = parse(Questions, read_yaml(PROMPT), str(PROMPT))
    classifier, truth = LeanClassifier(lean_classifier.read(training)), lean_classifier.read(gold)
    points = checkpoints(adapters, adapter_names(study.leanings, study.sft.datasets))
    found: dict[Checkpoint, Figures] = {}
    table: list[dict[str, Any]] = []
    with measured_model(base / "model.gguf", measuring.context, "judge", len(points) * len(asked.questions) * settings.repeats) as (engine, model):
        for point in points:
            engine.attach(point.file)
            texts = answer(model, asked, settings)
            scores = score(classifier, texts)
            found[point] = figures(scores, settings.seed)
            table += rows(point, asked, texts, scores)
        origin = model.provenance(PROMPT) | {"model": engine.base_fingerprint}
    measures: dict[str, Figures] = {point.adapter: found[point] for point in final(points)}
    measures["judges"] = {"classifier": lean_classifier.quality(classifier.score(truth.texts), truth)}
    results.write_metrics(target, measures)
    lines = [[adapter, step, *cells(found[point], "score")] for adapter, step, point in curve(points)]
    results.write_plot(curve_table, ["adapter", "step", "score", "low", "high"], lines)
    tables.write(answers_table, table, ANSWERS, origin)


if __name__ == "__main__":
    command.run(main)
