"""How near simulated answers come to those of held-out respondents, beside simple baselines.

in   models/base/, models/opinion/, data/interviews/train.parquet, data/interviews/test.parquet
out  metrics/opinion.json: <model> -> respondents, items (held out) -> measures; reduction.<kl|chi2>.{value,low,high}, the share by which tuning lowers the
     divergence on held-out respondents; reduction_items, the same for items held out; reduction_from_uniform[_items], the same from uniform answers;
     <forest|marginal>_or_tuned_<split>, in words; sample; valid, the probability of giving any of the options
     metrics/plots/opinion.csv: split, item, attribute, group, n, real, low, high, one column a model: mean answers, 0..1 along the scale
     metrics/plots/opinion_groups.csv: every measure for every item, subgroup and model
     metrics/answers/opinion.parquet: model, split, item, respondent, answer, probabilities, weight

Models are base, tuned and the baselines uniform, marginal, logistic, forest. A language model answers with its option probabilities, averaged over the
order of the options as it is and reversed and over the wordings of a persona; nothing is sampled. Its probabilities are those of the options divided by
their sum, also where it would rather say something else, so the untuned model is not punished for that.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pydantic

from stages.core import command, params, results, tables
from stages.core.errors import InputError
from stages.core.params import Section
from stages.core.results import Figures
from stages.llm.interface import LanguageModel, Prompt
from stages.llm.local import Measuring, measured_model
from stages.llm.orders import both_ways, choose_over_orders
from stages.llm.prompts import Task
from stages.statistics.distributions import mean_score
from stages.statistics.groups import Array, Resampler, chosen, effective_size
from stages.surveys import asking, baselines, interviews
from stages.surveys.comparison import EVERYBODY, MEASURES, Answered, Cell, cells, figures, log_loss, overall, reduction, subgroups
from stages.surveys.interviews import Interviews, Row, on_scale, scale
from stages.tuning.checkpoints import checkpoints, final

SPLITS = ("respondents", "items")
BASE, TUNED, UNIFORM = "base", "tuned", "uniform"
RIVALS = {"forest": "a random forest on the same attributes", "marginal": "the distribution of all answers, which tells nobody apart,"}
"Baselines that a sentence compares the tuned model with."
ANSWERS = pa.schema(
    {
        "model": pa.string(),
        "split": pa.string(),
        "item": pa.string(),
        "respondent": pa.string(),
        "answer": pa.int8(),
        "probabilities": pa.list_(pa.float32()),
        "weight": pa.float64(),
    }
)


Lines = list[list[object]]
"Rows of a CSV file."


class Params(Section):
    """``params.yaml: opinion``."""

    respondents: int = pydantic.Field(ge=2)
    min_group: float = pydantic.Field(ge=0)
    picture: tuple[str, ...]
    trees: int = pydantic.Field(ge=1)
    seed: int


class Item:
    """The interviews about one item, each respondent once."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """``rows`` may hold a respondent several times, in different words."""
        self.rows = interviews.answered(rows)
        self.name, self.split, self.question, self.options = rows[0]["item"], rows[0]["split"], rows[0]["question"], scale(rows[0])
        self.personas = list(dict.fromkeys(row["persona"] for row in rows))
        "each once, however many respondents share it"
        places = {persona: i for i, persona in enumerate(self.personas)}
        told: dict[str, set[int]] = {}
        for row in rows:
            told.setdefault(row["respondent"], set()).add(places[row["persona"]])
        self._told = [sorted(told[row["respondent"]]) for row in self.rows]

    def simulate(self, model: LanguageModel, task: Task) -> tuple[Array, float]:
        """A model's answers [n, k] for every respondent, and the mean probability that it gave to any option at all."""

        def ask(options: Sequence[str]) -> list[Prompt]:
            return [asking.ask(task, persona, self.question, options) for persona in self.personas]

        found, mass = choose_over_orders(model, ask, self.options, both_ways(len(self.options)))
        return np.stack([found[own].mean(axis=0) for own in self._told]), float(mass.mean())

    def answered(self, simulated: Mapping[str, Array], demographics: Sequence[str]) -> Answered:
        """Beside what the respondents said."""
        real = chosen([on_scale(row) for row in self.rows], len(self.options))
        attributes = {name: [row[name] for row in self.rows] for name in demographics}
        return Answered(self.name, tuple(row["respondent"] for row in self.rows), real, simulated, np.array([row["weight"] for row in self.rows]), attributes)


def items(table: Interviews, most: int) -> list[Item]:
    """The items of a table, with the first ``most`` respondents by their ids, which are hashes."""
    kept = set(sorted({row["respondent"] for row in table.rows})[:most])
    found: dict[tuple[str, str], list[Row]] = {}
    for row in table.rows:
        if row["respondent"] in kept:
            found.setdefault((row["split"], row["item"]), []).append(row)
    return [Item(found[key]) for key in sorted(found, key=lambda key: (SPLITS.index(key[0]), key[1]))]


def compare(asked: Sequence[Item], simulated: Mapping[str, Sequence[Array]], demographics: Sequence[str], settings: Params) -> tuple[list[Answered], list[Cell]]:
    """The items of one split, with the answers of every model to each."""
    answered = [item.answered({model: found[i] for model, found in simulated.items()}, demographics) for i, item in enumerate(asked)]
    everyone = sorted({name for one in answered for name in one.respondents})
    return answered, cells(answered, Resampler(everyone, settings.seed), settings.min_group)


def rival_or_tuned(split: str, some: Sequence[Cell], loss: Mapping[str, float], rival: str) -> str:
    """One sentence on where a baseline of :data:`RIVALS` does better than the tuned model, with the ``loss`` of both."""
    groups = subgroups(some)
    better = [cell for cell in groups if cell.measured("kl", rival)[0] < cell.measured("kl", TUNED)[0]]
    known = "respondents held out" if split == "respondents" else "items held out"
    means = {model: float(np.mean([cell.measured("kl", model)[0] for cell in groups])) if groups else 0.0 for model in (rival, TUNED)}
    return (
        f"For {known}, {RIVALS[rival]} is nearer than the tuned model in {len(better)} of {len(groups)} pairs of item and subgroup "
        f"(mean KL {means[rival]:.3f} against {means[TUNED]:.3f}), and guesses single answers {'better' if loss[rival] < loss[TUNED] else 'no better'} "
        f"(log loss {loss[rival]:.3f} against {loss[TUNED]:.3f})."
    )


def reductions(some: Sequence[Cell], before: str) -> Figures:
    """By which share the tuned model lowers each divergence from a model ``before``, for everybody and over subgroups."""
    parts = {"": overall(some), "_groups": subgroups(some)}
    shares = {f"{name}{suffix}": reduction(part, name, before, TUNED) for suffix, part in parts.items() for name in ("kl", "chi2")}
    return {name: share.figures() for name, share in shares.items() if share}


def picture(split: str, some: Sequence[Cell], attributes: Sequence[str], models: Sequence[str]) -> Iterator[list[object]]:
    """Rows of the picture: mean answers 0..1 of everybody and of the groups of ``attributes``."""
    for cell in some:
        if cell.attribute in (EVERYBODY, *attributes):
            low, high = np.nanquantile(mean_score(cell.real_draws), [0.025, 0.975])
            scores = [float(mean_score(cell.simulated[model])) for model in models]
            yield [split, cell.item, cell.attribute, cell.group, cell.n, float(mean_score(cell.real)), float(low), float(high), *scores]


def measures(split: str, some: Sequence[Cell], models: Sequence[str]) -> Iterator[list[object]]:
    """Rows of every measure for every cell and model; blank where there is no finite value."""
    for cell in some:
        for model in models:
            values = [cell.measured(name, model)[0] for name in MEASURES]
            yield [model, split, cell.item, cell.attribute, cell.group, cell.n, cell.effective, cell.enough, *(value if np.isfinite(value) else "" for value in values)]


def simulate(base: Path, adapter: Path, asked: Sequence[Item], task: Task) -> tuple[dict[str, list[Array]], dict[str, float], dict[str, str | int]]:
    """The answers of base and tuned model to every item, the mean probability that each gave to the options, and where the answers come from.

    :raises InputError: if a prompt does not fit the context.
    """
    measuring = params.load("measuring", Measuring)
    points = final(checkpoints(adapter.parent, [adapter.name]))
    found: dict[str, list[Array]] = {}
    valid: dict[str, float] = {}
    with measured_model(base / "model.gguf", measuring.context, "opinion", 2 * len(points) * sum(len(item.personas) for item in asked)) as (engine, model):
        for name, point in zip((BASE, TUNED), points, strict=True):
            engine.attach(point.file)
            answers = [item.simulate(model, task) for item in asked]
            found[name] = [probabilities for probabilities, _ in answers]
            valid[name] = float(np.mean([mass for _, mass in answers]))
        if model.usage.cut:
            raise InputError(f"params.yaml: measuring.context: {model.usage.cut} prompts are longer than {measuring.context} tokens. Raise it, or state fewer attributes.")
        return found, valid, model.provenance(asking.PROMPT) | {"model": engine.base_fingerprint}


def report(asked: Sequence[Item], simulated: Mapping[str, Sequence[Array]], table: Interviews, settings: Params) -> tuple[dict[str, Figures | str], Lines, Lines]:
    """What goes into the metric file, the picture and the table of measures."""
    found: dict[str, dict[str, Figures]] = {model: {} for model in simulated}
    told: dict[str, Figures | str] = {}
    sizes: dict[str, Figures] = {}
    shown: Lines = []
    measured: Lines = []
    for split in SPLITS:
        chosen_items = [i for i, item in enumerate(asked) if item.split == split]
        if not chosen_items:
            continue
        own = {model: [answers[i] for i in chosen_items] for model, answers in simulated.items()}
        answered, some = compare([asked[i] for i in chosen_items], own, table.demographics, settings)
        for model in simulated:
            found[model][split] = figures(answered, some, model, table.stated)
        suffix = "" if split == "respondents" else "_items"
        told[f"reduction{suffix}"], told[f"reduction_from_uniform{suffix}"] = (reductions(some, before) for before in (BASE, UNIFORM))
        loss = {model: log_loss(answered, model) for model in (TUNED, *RIVALS)}
        told |= {f"{rival}_or_tuned_{split}": rival_or_tuned(split, some, loss, rival) for rival in RIVALS}
        people = {row["respondent"]: row["weight"] for i in chosen_items for row in asked[i].rows}
        sizes[split] = {"items": len(chosen_items), "respondents": len(people), "effective": effective_size(np.array(list(people.values())))}
        shown += picture(split, some, settings.picture, list(simulated))
        measured += measures(split, some, list(simulated))
    return {**told, **found, "sample": sizes}, shown, measured


def main(base: Path, adapter: Path, train: Path, test: Path, target: Path, plot: Path, group_table: Path, answer_table: Path) -> None:
    """Measure base, tuned model and baselines."""
    settings, task = params.load("opinion", Params), asking.load()
    known, table = interviews.read(train), interviews.read(test)
    table.require(settings.picture, "opinion.picture")
    asked = items(table, settings.respondents)
    simulated, valid, origin = simulate(base, adapter, asked, task)
    for name, baseline in baselines.baselines(known.stated, settings.trees, settings.seed).items():
        simulated[name] = [baselines.predict(baseline, known.rows, item.rows) for item in asked]
    found, shown, measured = report(asked, simulated, table, settings)
    results.write_metrics(target, found | {"valid": valid})
    results.write_plot(plot, ["split", "item", "attribute", "group", "n", "real", "low", "high", *simulated], shown)
    results.write_plot(group_table, ["model", "split", "item", "attribute", "group", "n", "effective", "enough", *MEASURES], measured)
    rows = [
        {"model": model, "split": item.split, "item": item.name, "respondent": row["respondent"], "answer": on_scale(row), "probabilities": probabilities, "weight": row["weight"]}
        for model, answers in simulated.items()
        for item, found_answers in zip(asked, answers, strict=True)
        for row, probabilities in zip(item.rows, found_answers.tolist(), strict=True)
    ]
    tables.write(answer_table, rows, ANSWERS, origin)
    for sentence in found.values():
        if isinstance(sentence, str):
            print(f"opinion: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
