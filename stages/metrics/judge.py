"""The judge: open questions answered by the base and every checkpoint, each answer scored 0 (very left) .. 20 (very right).

in   models/base/, models/adapters/, prompts/instruments/questions.yaml, prompts/judge.yaml, data/sample/lean/ (the classifier's training texts, the gold set)
out  metrics/judge.json: <adapter> -> readable (share of answers that could be scored), score, and corrected (the score as the gold set corrects it, with
         an interval that carries the judge's error), at the final step, by the first of judge.judges; under their names the same by each further one;
         judges -> <name> -> agreement with the gold set, calibration (slope and offset), agreement with the judges before it
     metrics/plots/judge.csv: score and corrected score over training steps
     metrics/answers/judge.parquet: adapter, step, question, repeat, text, score, and a column of scores for each further judge, by its name
     metrics/answers/gold.parquet: gold, the true score of each text of the gold set, and score, that of the first judge

The base and final checkpoints answer each question ``repeats`` times, those along the way ``repeats_underway`` times. A judge sees the question and
the text, not who wrote it, and no language model judges itself unless it is told to.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from string import Template
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pydantic
from numpy.typing import NDArray
from scipy.stats import spearmanr

from stages.core import command, params, results, tables
from stages.core.params import Section, parse, read_yaml
from stages.core.results import Figures
from stages.instruments import judges, judging
from stages.instruments.ids import Differing
from stages.instruments.judges import Answer, Labelled
from stages.instruments.judging import Params
from stages.llm.interface import LanguageModel, Message, Sampling, several
from stages.llm.local import Measuring, measured_model
from stages.statistics.bootstrap import DRAWS, crossed_mean, interval, nested
from stages.statistics.calibration import Calibration
from stages.statistics.undefined import Undefined
from stages.tuning.checkpoints import Checkpoint, adapter_names, cells, checkpoints, curve, final

PROMPT = Path("prompts/instruments/questions.yaml")
ANSWERS = pa.schema({"adapter": pa.string(), "step": pa.int32(), "question": pa.string(), "repeat": pa.int32(), "text": pa.string(), "score": pa.float32()})
GOLD = pa.schema({"gold": pa.float64(), "score": pa.float64()})
Scores: TypeAlias = dict[str, tuple[NDArray[np.float64], list[NDArray[np.float64]]]]
"Each judge's scores of the gold set [n] and of each model's answers [questions, repeats]; NaN where there is none."


class Question(Section):
    """One open question."""

    id: str
    topic: str
    text: str


class Questions(Section):
    """The file of questions."""

    wording: str
    questions: Differing[tuple[Question, ...]] = pydantic.Field(min_length=1)


def answer(model: LanguageModel, asked: Questions, settings: Params, repeats: int) -> list[list[str]]:
    """Each question's answers: [questions][repeats]."""
    sampling = Sampling(settings.max_tokens, settings.temperature, top_k=settings.top_k, seed=settings.seed)
    prompts = [(Message("user", Template(asked.wording).substitute(question=question.text)),) for question in asked.questions]
    return [[completion.text.strip() for completion in answers] for answers in several(model, prompts, sampling, repeats)]


def judge_all(settings: Params, training: Path, gold: Labelled, asked: Questions, texts: Sequence[Sequence[Sequence[str]]]) -> Scores:
    """Each judge's scores of the gold set and of all models' answers, ``texts`` [models][questions][repeats]."""
    answers = [Answer(text, question.text) for model in texts for question, repeats in zip(asked.questions, model, strict=True) for text in repeats]
    ends = np.cumsum([sum(map(len, model)) for model in texts])[:-1]
    found: Scores = {}
    for name in settings.judges:
        with judging.opened(name, settings, training) as judge:
            truth = judges.judged(judge, [Answer(text) for text in gold.texts])
            found[name] = truth, [scores.reshape(len(asked.questions), -1) for scores in np.split(judges.judged(judge, answers), ends)]
    return found


def figures(scores: NDArray[np.float64], calibration: Calibration | Undefined, seed: int) -> dict[str, Figures | float]:
    """The measures of one model from its ``scores`` [questions, repeats], each question counting once.

    No score if nothing was readable, none corrected if the gold set does not tell how.
    """
    found: dict[str, Figures | float] = {"readable": float(np.isfinite(scores).mean())}
    if found["readable"]:
        value, draws = crossed_mean(nested(scores), np.zeros(len(scores), dtype=np.int64), seed)
        found["score"] = interval(value, draws).within(judges.LOW, judges.HIGH).figures()
        if isinstance(calibration, Calibration) and len(draws) == DRAWS:  # fewer if some resample holds no readable answer: too few to correct
            found["corrected"] = interval(*calibration.correct(value, draws)).figures()
    return found


def between(first: NDArray[np.float64], second: NDArray[np.float64]) -> dict[str, float | int]:
    """How far two judges agree on the answers that both score; rank correlation only where both scores vary."""
    both = np.isfinite(first) & np.isfinite(second)
    found: dict[str, float | int] = {"n": int(both.sum())}
    if both.sum() > 1:
        found["difference"] = float((second - first)[both].mean())
        if np.ptp(first[both]) > 0 and np.ptp(second[both]) > 0:
            found["spearman"] = float(spearmanr(first[both], second[both]).statistic)
    return found


def rows(point: Checkpoint, asked: Questions, texts: Sequence[Sequence[str]], scores: Mapping[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """One model's answers as rows of the answer table; ``scores`` [questions, repeats] by column."""
    return [
        {"adapter": point.adapter, "step": point.step, "question": question.id, "repeat": j, "text": text, **{name: found[i, j] for name, found in scores.items()}}
        for i, question in enumerate(asked.questions)
        for j, text in enumerate(texts[i])
    ]


def write(target: Path, curve_table: Path, found: Mapping[str, Mapping[Checkpoint, Figures]], quality: Mapping[str, Figures]) -> None:
    """The metric file and the curve; ``found`` holds each judge's figures, the first one's first."""
    (_, ours), *others = found.items()
    measures: dict[str, Figures] = {point.adapter: {**ours[point], **{name: theirs[point] for name, theirs in others}} for point in final(ours)}
    results.write_metrics(target, measures | {"judges": quality})
    columns = ["adapter", "step", "score", "low", "high", "corrected", "corrected_low", "corrected_high"]
    results.write_plot(curve_table, columns, [[adapter, step, *cells(ours[point], "score"), *cells(ours[point], "corrected")] for adapter, step, point in curve(ours)])


def main(base: Path, adapters: Path, training: Path, gold: Path, target: Path, curve_table: Path, answers_table: Path, gold_table: Path) -> None:
    """Judge every model."""
    settings, measuring = params.load("judge", Params), params.load("measuring", Measuring)
    study, truth = params.load_study(), judges.read(gold)
    asked = parse(Questions, read_yaml(PROMPT), str(PROMPT))
    judging.refuse_own_model(settings, base / "model.gguf")
    points = checkpoints(adapters, adapter_names(study))
    ends, texts = final(points), []
    repeats = {point: settings.repeats if point in ends else settings.repeats_underway for point in points}
    with measured_model(base / "model.gguf", measuring.context, "judge", sum(repeats.values()) * len(asked.questions)) as (engine, model):
        for point in points:
            engine.attach(point.file)
            texts.append(answer(model, asked, settings, repeats[point]))
        origin = model.provenance(PROMPT) | {"model": engine.base_fingerprint}
    scores = judge_all(settings, training, truth, asked, texts)
    found: dict[str, dict[Checkpoint, Figures]] = {}
    quality: dict[str, dict[str, Figures | float]] = {}
    for name, (on_gold, on_answers) in scores.items():
        calibration = judges.calibrated(on_gold, truth.scores, settings.seed)
        found[name] = {point: figures(on_answers[i], calibration, settings.seed) for i, point in enumerate(points)}
        quality[name] = judges.agreement(on_gold, truth) | ({"calibration": calibration.figures()} if isinstance(calibration, Calibration) else {})
    for first, second in combinations(scores, 2):
        one, other = (np.concatenate([model.ravel() for model in scores[name][1]]) for name in (first, second))
        quality[second][f"beside_{first}"] = between(one, other)
    write(target, curve_table, found, quality)
    columns = {"score" if name == settings.judges[0] else name: on_answers for name, (_, on_answers) in scores.items()}
    table = [row for i, point in enumerate(points) for row in rows(point, asked, texts[i], {name: on_answers[i] for name, on_answers in columns.items()})]
    schema = pa.schema([*ANSWERS, *(pa.field(name, pa.float32()) for name in columns if name not in ANSWERS.names)])
    tables.write(answers_table, table, schema, origin)
    ours, _ = scores[settings.judges[0]]
    tables.write(gold_table, [{"gold": true, "score": score} for true, score in zip(truth.scores, ours, strict=True)], GOLD)


if __name__ == "__main__":
    command.run(main)
