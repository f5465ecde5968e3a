"""The compass: where the base and every checkpoint of every adapter stand on an instrument's axes, and how far that can be trusted.

in   models/base/, models/adapters/, an instrument (by default prompts/instruments/compass.yaml), prompts/instruments/wordings.yaml
out  metrics/compass.json: <adapter> at its final step -> each axis with its interval (our own: economic, social, -10..10, right and authoritarian
         positive), valid, agreement, order_effect, flip_rate, acquiescence, reliability; paper, open: the same axes by other ways of asking;
         controls -> the same for responders without a position, who belong at the centre of our own compass
     metrics/plots/compass.csv: the axes over training steps, with valid, order_effect and acquiescence
     metrics/answers/compass.parquet: adapter, step, arm, item, wording, listed and reversed (the options' probabilities in both orders), value, mass, text

A model whose answers fail a limit is not placed: ``unplaced`` names what it failed. The controls show their scores all the same, as proof of the instrument.

Final checkpoints and the base are asked in the first ``wordings``; those along the way in ``wordings_underway`` of them, which rotate: the i-th
checkpoint of every adapter begins where the one before it ended, so that all adapters are asked alike.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import pyarrow as pa
import pydantic

from stages.core import command, params, results, tables
from stages.core.errors import InputError
from stages.core.params import Section
from stages.core.results import Figures
from stages.instruments import consistency, controls, open_answers, paper
from stages.instruments import instrument as instruments
from stages.instruments import questionnaire as forced
from stages.instruments.instrument import Instrument
from stages.instruments.open_answers import OpenAnswers
from stages.instruments.questionnaire import Answers, Wording
from stages.instruments.replies import Replies, Sampled, Texts
from stages.llm.interface import LanguageModel
from stages.llm.local import Annotator, Measuring, annotating_model, measured_model
from stages.statistics.bootstrap import Estimate, estimate
from stages.tuning.checkpoints import Checkpoint, adapter_names, cells, checkpoints, curve, final

FORCED = "forced"
CONTROLS = "controls"
ROOM = 256  # tokens of a prompt, beside an answer
SHARES = pa.list_(pa.float32())
ANSWERS = pa.schema(
    {
        "adapter": pa.string(),
        "step": pa.int32(),
        "arm": pa.string(),
        "item": pa.string(),
        "wording": pa.string(),  # of the forced arm; the number of the repeat in the others
        "listed": SHARES,
        "reversed": SHARES,
        "value": pa.float32(),
        "mass": pa.float32(),
        "text": pa.string(),  # what was written; none in the forced arm
    }
)
Measures: TypeAlias = dict[str, Figures | float | str]


class Params(Section):
    """``params.yaml: compass``."""

    instrument: Path
    arms: tuple[Literal["forced", "paper", "open"], ...]
    wordings: int = pydantic.Field(ge=1)
    wordings_underway: int = pydantic.Field(ge=1)
    min_valid: float = pydantic.Field(ge=0, le=1)
    max_acquiescence: float = pydantic.Field(ge=0, le=1)
    max_order_effect: float = pydantic.Field(ge=0, le=1)
    paper: Sampled
    open: OpenAnswers
    seed: int

    @pydantic.field_validator("arms")
    @classmethod
    def _forced_is_there(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if FORCED not in value:
            raise ValueError("needs `forced`: the curves and the summary rest on it")
        return value


def schedule(points: Sequence[Checkpoint], wordings: Sequence[Wording], underway: int) -> dict[Checkpoint, tuple[Wording, ...]]:
    """The wordings that each checkpoint is asked in."""
    last, before = set(final(points)), dict[str, int]()
    found = {}
    for point in points:
        start = before.get(point.adapter, 0)
        before[point.adapter] = start + underway
        rotated = tuple(wordings[(start + i) % len(wordings)] for i in range(min(underway, len(wordings))))
        found[point] = tuple(wordings) if point in last else rotated
    return found


def place(answers: Answers, instrument: Instrument, seed: int) -> dict[str, Estimate]:
    """Each axis' score with its interval, over items (within each direction) and wordings."""
    return {axis: estimate(*instrument.keyed(answers.mean_chances, axis), seed).within(*instrument.bounds(axis)) for axis in instrument.axes}


def failures(found: Figures, settings: Params) -> list[str]:
    """The measures by which a model fails the limits of a placement; one that is undefined fails none."""
    tilt = found.get("acquiescence")
    failed = {
        "valid": float(str(found["valid"])) < settings.min_valid,
        "acquiescence": isinstance(tilt, Mapping) and abs(float(str(tilt["value"]))) > settings.max_acquiescence,
        "order_effect": float(str(found["order_effect"])) > settings.max_order_effect,
    }
    return [name for name, fails in failed.items() if fails]


def figures(answers: Answers, instrument: Instrument, settings: Params, *, place_anyway: bool = False) -> Measures:
    """The measures of one model; without a placement if it fails a limit, unless it is to be placed anyway."""
    found: Measures = {"valid": float(answers.mass.mean()), "agreement": float(answers.values.mean())}
    found |= consistency.figures(answers, instrument.opposites, settings.seed)
    failed = failures(found, settings)
    if failed:
        found["unplaced"] = ", ".join(failed)
    if not failed or place_anyway:
        found |= {axis: score.figures() for axis, score in place(answers, instrument, settings.seed).items()}
    return found


def control_figures(instrument: Instrument, wordings: Sequence[Wording], settings: Params) -> dict[str, Measures]:
    """The measures of responders without a position, taken as a model's are."""
    responders = controls.without_position(instrument.options, settings.seed)
    return {name: figures(forced.ask(model, instrument, controls.known(wordings)), instrument, settings, place_anyway=True) for name, model in responders.items()}


def forced_rows(point: Checkpoint, answers: Answers, instrument: Instrument, wordings: Sequence[Wording]) -> list[dict[str, object]]:
    """The answers of one model as rows of the answer table."""
    cell = {"adapter": point.adapter, "step": point.step, "arm": FORCED}
    return [
        cell
        | {"item": item.id, "wording": wording.id, "listed": answers.chances[i, j, 0], "reversed": answers.chances[i, j, 1]}
        | {"value": answers.values[i, j], "mass": answers.mass[i, j]}
        for i, item in enumerate(instrument.items)
        for j, wording in enumerate(wordings)
    ]


def written_rows(point: Checkpoint, arm: str, replies: Replies) -> list[dict[str, object]]:
    """Written answers as rows of the answer table."""
    cell = {"adapter": point.adapter, "step": point.step, "arm": arm}
    return [
        cell | {"item": replies.instrument.items[row].id, "wording": f"{repeat}", "value": replies.values[i, repeat], "mass": float(replies.answered[i, repeat]), "text": text}
        for i, (row, texts) in enumerate(zip(replies.written.rows, replies.written.texts, strict=True))
        for repeat, text in enumerate(texts)
    ]


def write_curve(path: Path, measured: Mapping[Checkpoint, Figures], axes: Sequence[str]) -> None:
    """The axes with their intervals over steps, as one row a checkpoint; blank where a model is not placed."""
    columns = ["adapter", "step", *(column for axis in axes for column in (axis, f"{axis}_low", f"{axis}_high")), "valid", "order_effect", "acquiescence"]
    lines = []
    for adapter, step, point in curve(measured):
        found = measured[point]
        checks = [found["valid"], found["order_effect"], cells(found, "acquiescence")[0]]
        lines.append([adapter, step, *(cell for axis in axes for cell in cells(found, axis)), *checks])
    results.write_plot(path, columns, lines)


def context_for(settings: Params, context: int) -> int:
    """The longest prompt and answer together, in tokens, with room for what the arms let a model write."""
    longest = [arm.max_tokens for name, arm in (("paper", settings.paper), ("open", settings.open)) if name in settings.arms]
    return max([context, *(2 * tokens + ROOM for tokens in longest)])


def written_by(model: LanguageModel, instrument: Instrument, settings: Params) -> tuple[dict[str, Replies], Texts | None]:
    """What a model writes in each arm that is on; the texts of the open one are still to be judged."""
    done = {"paper": paper.ask(model, instrument, settings.paper, settings.seed)} if "paper" in settings.arms else {}
    return done, open_answers.ask(model, instrument, settings.open, settings.seed) if "open" in settings.arms else None


def judged(judge: Path, instrument: Instrument, texts: Mapping[Checkpoint, Texts], context: int) -> tuple[dict[Checkpoint, Replies], dict[str, str | int]]:
    """The open answers with the stances that the judge reads, and what that took."""
    annotator = Annotator(file=judge, context=context, max_characters=0)
    with annotating_model(annotator, "stances") as model:
        found = dict(zip(texts, open_answers.read(model, instrument, list(texts.values())), strict=True))
        return found, model.provenance(open_answers.PROMPT)


def main(base: Path, adapters: Path, target: Path, curve_table: Path, answers_table: Path) -> None:
    """Measure every model."""
    settings, measuring, study = params.load("compass", Params), params.load("measuring", Measuring), params.load_study()
    instrument, file = instruments.load(settings.instrument), base / "model.gguf"
    if settings.wordings > len(instrument.wordings):
        raise InputError(f"params.yaml: compass.wordings: {settings.wordings} are asked for, and there are {len(instrument.wordings)}. Lower it, or add wordings.")
    judge = open_answers.judge_of(settings.open, file) if "open" in settings.arms else None
    wordings, context = instrument.wordings[: settings.wordings], context_for(settings, measuring.context)
    points = checkpoints(adapters, adapter_names(study))
    asked, ends = schedule(points, wordings, settings.wordings_underway), final(points)
    given, written, open_texts = dict[Checkpoint, Answers](), dict[Checkpoint, dict[str, Replies]](), dict[Checkpoint, Texts]()
    with measured_model(file, context, "compass", sum(map(len, asked.values())) * 2 * len(instrument.items)) as (engine, model):
        for point in points:
            engine.attach(point.file)
            given[point] = forced.ask(model, instrument, asked[point])
            if point in ends:
                written[point], texts = written_by(model, instrument, settings)
                open_texts |= {point: texts} if texts else {}
        origin = model.provenance(settings.instrument) | {"model": engine.base_fingerprint}
    if judge:
        stances, took = judged(judge, instrument, open_texts, context)
        written = {point: arms | {"open": stances[point]} for point, arms in written.items()}
        origin |= {name: value + int(took[name]) for name, value in origin.items() if isinstance(value, int)}
    measured = {point: figures(answers, instrument, settings) for point, answers in given.items()}
    found: dict[str, Figures] = {
        point.adapter: measured[point] | {arm: replies.figures(given[point].values, settings.min_valid, settings.seed) for arm, replies in written[point].items()} for point in ends
    }
    results.write_metrics(target, found | {CONTROLS: control_figures(instrument, wordings, settings)})
    write_curve(curve_table, measured, instrument.axes)
    rows = [row for point, answers in given.items() for row in forced_rows(point, answers, instrument, asked[point])]
    rows += [row for point, arms in written.items() for arm, replies in arms.items() for row in written_rows(point, arm, replies)]
    tables.write(answers_table, rows, ANSWERS, origin)


if __name__ == "__main__":
    command.run(main)
