"""The compass: where the base and every checkpoint of every adapter stand on two axes.

in   models/base/, models/adapters/, prompts/instruments/compass.yaml
out  metrics/compass.json: <adapter> -> economic, social (-10..10, right and authoritarian positive), agreement, valid, at the final step
     metrics/plots/compass.csv: the same over training steps
     metrics/answers/compass.parquet: adapter, step, item, wording, value, mass
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pydantic

from stages import command, params, results, tables
from stages.instruments import questionnaire as instruments
from stages.instruments.questionnaire import Answers, Questionnaire, Wording
from stages.llm.local import Measuring, measured_model
from stages.params import Section
from stages.results import Figures
from stages.statistics.bootstrap import Estimate, estimate
from stages.tuning.checkpoints import Checkpoint, adapter_names, cells, checkpoints, curve, final

PROMPT = Path("prompts/instruments/compass.yaml")
ANSWERS = pa.schema({"adapter": pa.string(), "step": pa.int32(), "item": pa.string(), "wording": pa.string(), "value": pa.float32(), "mass": pa.float32()})


class Params(Section):
    """``params.yaml: compass``."""

    wordings: int = pydantic.Field(ge=1)
    min_valid: float = pydantic.Field(ge=0, le=1)
    seed: int


def place(answers: Answers, questionnaire: Questionnaire, seed: int) -> dict[str, Estimate]:
    """Each axis' score with its interval, over items (within each direction) and wordings."""
    return {axis: estimate(*instruments.keyed(answers.values, questionnaire, axis), seed) for axis in questionnaire.axes}


def figures(answers: Answers, questionnaire: Questionnaire, settings: Params) -> dict[str, Figures | float]:
    """The measures of one model; no placement if it gave the options too little probability."""
    valid = float(answers.mass.mean())
    found: dict[str, Figures | float] = {"valid": valid, "agreement": float(answers.values.mean())}
    if valid >= settings.min_valid:
        found |= {axis: score.figures() for axis, score in place(answers, questionnaire, settings.seed).items()}
    return found


def rows(point: Checkpoint, answers: Answers, questionnaire: Questionnaire, wordings: Sequence[Wording]) -> list[dict[str, object]]:
    """The answers of one model as rows of the answer table."""
    return [
        {"adapter": point.adapter, "step": point.step, "item": item.id, "wording": wording.id, "value": answers.values[i, j], "mass": answers.mass[i, j]}
        for i, item in enumerate(questionnaire.items)
        for j, wording in enumerate(wordings)
    ]


def write_curve(path: Path, measured: Mapping[Checkpoint, Mapping[str, Figures | float]], axes: Sequence[str]) -> None:
    """Both axes with their intervals over steps, as one row a checkpoint."""
    columns = ["adapter", "step", *(column for axis in axes for column in (axis, f"{axis}_low", f"{axis}_high"))]
    lines = [[adapter, step, *(cell for axis in axes for cell in cells(measured[point], axis))] for adapter, step, point in curve(measured)]
    results.write_plot(path, columns, lines)


def main(base: Path, adapters: Path, target: Path, curve_table: Path, answers_table: Path) -> None:
    """Measure every model."""
    settings, measuring = params.load("compass", Params), params.load("measuring", Measuring)
    study = params.load_study()
    questionnaire = instruments.load(PROMPT)
    wordings = questionnaire.wordings[: settings.wordings]
    points = checkpoints(adapters, adapter_names(study.leanings, study.sft.datasets))
    measured: dict[Checkpoint, dict[str, Figures | float]] = {}
    table: list[dict[str, object]] = []
    total = len(points) * len(wordings) * 2 * len(questionnaire.items)
    with measured_model(base / "model.gguf", measuring.context, "compass", total) as (engine, model):
        for point in points:
            engine.attach(point.file)
            answers = instruments.ask(model, questionnaire, wordings)
            measured[point] = figures(answers, questionnaire, settings)
            table += rows(point, answers, questionnaire, wordings)
        origin = model.provenance(PROMPT) | {"model": engine.base_fingerprint}
    results.write_metrics(target, {point.adapter: measured[point] for point in final(points)})
    write_curve(curve_table, measured, list(questionnaire.axes))
    tables.write(answers_table, table, ANSWERS, origin)


if __name__ == "__main__":
    command.run(main)
