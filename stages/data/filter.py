"""Posts scored 0 to 3 for how strongly they state a leaning's views, by a language model.

in   data/posts/<leaning>.parquet
out  data/scored/<leaning>.parquet: posts + score, p0..p3, kept

The score is read from the probabilities of four fixed answers, without sampling. Those probabilities are calibrated with what the model answers
to posts without content (Zhao et al. 2021, arXiv 2102.09690): each is divided by its content-free mean, then all are scaled to sum to 1. Rows
that ``collect`` did not keep stay in the table, unscored. The model sees the first ``annotator.max_characters`` of a post, without sentences that try to
instruct it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pydantic
from numpy.typing import NDArray

from stages.core import command, params, tables
from stages.core.errors import InputError
from stages.core.params import Section
from stages.llm import prompts
from stages.llm.injection import shown
from stages.llm.interface import LanguageModel, choices
from stages.llm.local import Annotator, annotating_model
from stages.llm.prompts import Task

PROMPT = Path("prompts/filter.yaml")
SCORES = 4


class Params(Section):
    """``params.yaml: filter``."""

    threshold: int = pydantic.Field(ge=0, lt=SCORES)
    calibrate: bool


def probabilities(texts: Sequence[str], leaning: str, model: LanguageModel, task: Task, *, calibrate: bool) -> NDArray[np.float64]:
    """The distribution of each text's score, [n, 4]."""
    asked = [*texts, *(task.neutral if calibrate else ())]
    answers = choices(model, [task.render(leaning, {"post": text}) for text in asked], task.options)
    found = np.array([answer.probabilities for answer in answers], dtype=np.float64).reshape(-1, SCORES)
    scores, neutral = found[: len(texts)], found[len(texts) :]
    return contextual_calibration(scores, neutral.mean(axis=0)) if len(neutral) else scores


def contextual_calibration(found: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """``found`` [n, k] divided by what the model answers to nothing, ``prior`` [k], scaled to sum to 1."""
    corrected = found / np.maximum(prior, np.finfo(np.float64).tiny)
    return np.asarray(corrected / corrected.sum(axis=1, keepdims=True))


def filter_posts(posts: pa.Table, leaning: str, model: LanguageModel, task: Task, settings: Params, max_characters: int) -> pa.Table:
    """``posts`` with their scores.

    :raises InputError: if no post reaches the threshold.
    """
    usable = np.array(posts.column("status").to_pylist()) == "kept"
    texts = [shown(text, max_characters) for text in posts.filter(pa.array(usable)).column("text").to_pylist()]
    distribution = np.full((len(posts), SCORES), np.nan)
    distribution[usable] = probabilities(texts, leaning, model, task, calibrate=settings.calibrate)
    score = np.where(usable, np.argmax(np.nan_to_num(distribution, nan=-1), axis=1), -1)
    kept = usable & (score >= settings.threshold)
    if not kept.any():
        raise InputError(f"none of {usable.sum()} '{leaning}' posts scores {settings.threshold} or more. Lower filter.threshold or give other posts.")
    columns = {"score": pa.array(score, pa.int8(), mask=~usable)}
    columns |= {f"p{i}": pa.array(distribution[:, i], pa.float32(), mask=~usable) for i in range(SCORES)}
    columns["kept"] = pa.array(kept, pa.bool_())
    return pa.table({**{name: posts.column(name) for name in tables.POSTS.names}, **columns})


def main(leaning: str, source: Path, target: Path) -> None:
    """Score the posts of one leaning."""
    settings, annotator = params.load("filter", Params), params.load("annotator", Annotator)
    task = prompts.load(PROMPT)
    if len(task.options) != SCORES:
        raise InputError(f"{PROMPT}: options: there must be {SCORES}, for the scores 0 to {SCORES - 1}.")
    posts = tables.read(source, tables.POSTS)
    with annotating_model(annotator, f"filter {leaning}") as model:
        scored = filter_posts(posts, leaning, model, task, settings, annotator.max_characters)
        tables.write(target, scored, tables.SCORED, model.provenance(PROMPT))
    kept = sum(scored.column("kept").to_pylist())
    print(f"filter {leaning}: {kept} of {len(scored)} rows kept", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
