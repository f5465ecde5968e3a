"""A LoRA adapter with which a model answers a survey as its respondents do.

in   models/base/, data/interviews/train.parquet
out  models/opinion/: step-000010/… and log.jsonl

The loss of a panel of respondents who were asked one item is L = α·(performance + reluctance) + β·fairness + γ·adversarial (:mod:`stages.tuning.opinion` has the
equations); a weight of 0 takes its term out. Losses are averaged over the panels of a batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic
import torch

from stages.core import command, params
from stages.core.errors import InputError
from stages.core.runtime import Runtime
from stages.llm.options import OptionTree
from stages.llm.prompts import Task
from stages.llm.tokenizer import Tokenizer, tokenizer_of
from stages.surveys import asking, interviews
from stages.surveys.interviews import Interviews, Row
from stages.surveys.panels import GroupAnswers, Panel, Sample, answers, labels_of, panels
from stages.tuning.architecture import Model
from stages.tuning.data import held_out, require_rows
from stages.tuning.distributed import add_up, say, shard_alone, shares
from stages.tuning.launch import relaunched
from stages.tuning.loop import Part, Run, affordable, train
from stages.tuning.opinion import Adversary, Distance, answer_states, option_log_probabilities, parity_gap, performance, reluctance
from stages.tuning.placement import prepared
from stages.tuning.resume import resumable, run_key
from stages.tuning.settings import Schedule, Tuning


class Params(Schedule):
    """``params.yaml: simulate``."""

    alpha: float = pydantic.Field(ge=0)
    beta: float = pydantic.Field(ge=0)
    gamma: float = pydantic.Field(ge=0)
    target: Literal["answer", "group"]
    groups: tuple[str, ...]
    shrinkage: float = pydantic.Field(ge=0)
    distance: Distance
    parity: str
    hidden: str
    panel: int = pydantic.Field(ge=2)
    validation: int = pydantic.Field(ge=0)

    @pydantic.model_validator(mode="after")
    def _minimises_something(self) -> "Params":
        if not self.alpha + self.beta:
            raise ValueError("alpha or beta must be above 0, or there is nothing to learn from")
        return self


class Simulation:
    """The loss of panels, averaged over those of a batch."""

    def __init__(
        self,
        model: Model,
        ending: Sequence[int],
        training: Sequence[Panel],
        kept_out: Sequence[Panel],
        device: torch.device,
        settings: Params,
        adversary: Adversary | None = None,
    ) -> None:
        """``ending``: the tokens that end an answer. A panel is evaluated at once, whatever its size."""
        self.model, self.ending, self.training, self.kept_out = model, ending, training, kept_out
        self.device, self.settings, self.adversary = device, settings, adversary

    def __len__(self) -> int:
        return len(self.training)

    def parts(self, indices: Sequence[int]) -> Iterator[Part]:
        """See :class:`stages.tuning.loop.Objective`. Each term is logged before its weight; ``read``: how often the adversary reads the attribute."""
        for (panel,), weight in shares([self.training[i] for i in indices], 1):
            terms = self._panel_terms(panel)
            part = weight / len(indices)
            yield self._loss(terms) * part, {name: term.detach() * part for name, term in terms.items()}

    def _panel_terms(self, panel: Panel) -> dict[str, torch.Tensor]:
        def tensor(values: Sequence[object], dtype: torch.dtype) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=self.device)

        samples, tree = panel.samples, OptionTree(panel.options, self.ending)
        states = answer_states(self.model, [sample.tokens for sample in samples], tree, self.device)  # [n, m, d]
        log_q, log_mass = option_log_probabilities(self.model, states, tree, self.ending)
        weight = tensor([sample.weight for sample in samples], torch.float32)
        targets = tensor([sample.target for sample in samples], torch.float32)
        groups = tensor([sample.group for sample in samples], torch.long)
        found = {
            "performance": performance(log_q, targets, weight, self.settings.distance),
            "reluctance": reluctance(log_mass, weight),
            "fairness": parity_gap(log_q, weight, groups, torch.tensor(panel.real, dtype=torch.float32, device=self.device)),
        }
        if self.adversary:
            found["adversarial"], found["read"] = self.adversary(states[:, 0].float(), tensor([sample.hidden for sample in samples], torch.long))
        return found

    def _loss(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        loss = self.settings.alpha * (terms["performance"] + terms["reluctance"]) + self.settings.beta * terms["fairness"]
        return loss + self.settings.gamma * terms["adversarial"] if self.adversary else loss

    def tokens(self, indices: Sequence[int]) -> int:
        """See :class:`stages.tuning.loop.Objective`."""
        return sum(len(sample.tokens) for i in indices for sample in self.training[i].samples)

    def held_out(self) -> dict[str, float]:
        """Every term, as logged in training, over the panels of respondents kept from training."""
        sums: dict[str, torch.Tensor] = {}
        for (panel,), weight in shares(self.kept_out, 1):
            for name, term in self._panel_terms(panel).items():
                sums[name] = sums.get(name, torch.zeros_like(term)) + weight * term
        return {name: float(add_up(total)) / len(self.kept_out) for name, total in sums.items()}


def prepare(rows: Sequence[Row], known: Sequence[Row], task: Task, tokenizer: Tokenizer, settings: Params, labels: Mapping[str, int], seed: int) -> list[Panel]:
    """The panels of ``rows``, with targets and real differences from the rows ``known``; ``labels`` number those of the hidden attribute."""
    targets = GroupAnswers(known, settings.groups, settings.shrinkage)
    parity = GroupAnswers(known, (settings.parity,), 0.0)
    groups = labels_of(known, settings.parity)
    samples: dict[tuple[str, tuple[int, ...]], list[Sample]] = {}
    options: dict[str, tuple[tuple[int, ...], ...]] = {}
    for row in rows:
        tokens = tokenizer.tokens(tokenizer.render(asking.ask(task, row["persona"], row["question"], row["options"])))
        target = answers(row) if settings.target == "answer" else targets.of(row)
        group, hidden = groups.get(row[settings.parity], -1), labels.get(row[settings.hidden], -1)
        if row["item"] not in options:
            options[row["item"]] = tuple(tuple(tokenizer.tokens(option, special=False)) for option in interviews.scale(row))
        samples.setdefault((row["item"], tuple(row["order"])), []).append(Sample(tuple(tokens), target, row["weight"], group, hidden))
    real = {item: np.array([parity.labelled(item, (label,)) for label in groups]) for item in options}
    return panels(samples, options, real, settings.panel, seed)


def check(settings: Params, table: Interviews) -> None:
    """:raises InputError: if the parameters name an attribute that the table lacks, or hide one that personas state."""
    table.require(settings.groups, "simulate.groups")
    table.require([settings.parity], "simulate.parity")
    table.require([settings.hidden], "simulate.hidden")
    if settings.gamma and settings.hidden in table.stated:
        raise InputError(f"params.yaml: simulate.hidden: personas state '{settings.hidden}', so nothing is hidden. Add it to interview.unstated, or choose another attribute.")


def split(table: Interviews, settings: Params, share: float) -> tuple[list[Row], list[Row]]:
    """The rows to train on and those of the ``share`` of respondents who are kept from it, about the same items.

    :raises InputError: if none is left to train on.
    """
    kept_out = held_out([row["respondent"] for row in table.rows], share if settings.validation else 0.0)
    seen: list[Row] = [row for row, out in zip(table.rows, kept_out, strict=True) if not out]
    require_rows(seen, f"{table.path} without the tuning.held_out share of {share}")
    known = {row["item"] for row in seen}
    return seen, [row for row, out in zip(table.rows, kept_out, strict=True) if out and row["item"] in known]


def require_comparisons(training: Sequence[Panel], settings: Params) -> None:
    """:raises InputError: if the fairness term has nobody to compare on most panels."""
    alone = sum(len({sample.group for sample in panel.samples} - {-1}) < 2 for panel in training)
    if settings.beta and alone * 2 > len(training):
        raise InputError(
            f"params.yaml: simulate.beta: {alone} of {len(training)} panels hold one group of simulate.parity only, so that the fairness term compares nobody there. "
            "A panel is shown the options in one order: set interview.orders to both; or name another attribute under simulate.parity, or set simulate.beta to 0."
        )


def spread(some: Sequence[Panel], n: int) -> list[Panel]:
    """At most ``n`` panels from all over ``some``, so that every item has its share."""
    return [some[i * len(some) // n] for i in range(n)] if 0 < n < len(some) else list(some) if n else []


def main(base: Path, source: Path, target: Path) -> None:
    """Train the adapter."""
    settings, runtime = params.load("simulate", Params), params.load("runtime", Runtime)
    if relaunched(runtime.processes, "stages.models.simulate", base, source, target):
        return
    tuning = affordable(params.load("tuning", Tuning), runtime.device)
    table, task = interviews.read(source), asking.load()
    check(settings, table)
    seen, unseen = split(table, settings, tuning.held_out)
    labels = labels_of(seen, settings.hidden)
    with tokenizer_of(base / "model.gguf") as tokenizer:
        ending = list(tokenizer.ending)
        training, validating = (prepare(rows, seen, task, tokenizer, settings, labels, tuning.seed) for rows in (seen, unseen))
    require_comparisons(training, settings)
    kept_out = spread(validating, settings.validation)
    say(f"{target.name}: {len(training)} panels, {min(len(training), settings.steps * settings.batch_size)} of them are trained on")
    samples = [sample for panel in (*training, *kept_out) for sample in panel.samples]
    one = runtime.model_copy(update={"micro_batch": 1})  # a panel is evaluated at once
    with prepared(base, tuning, one, samples, settings.panel, "State fewer attributes: interview.unstated.") as (architecture, model, device):
        adversary = Adversary(architecture.hidden_size, len(labels)).to(device) if settings.gamma else None
        if adversary:
            shard_alone(adversary, device)
            model.adversary = adversary  # so that the loop trains it; checkpoints leave it out
        objective = Simulation(model, ending, training, kept_out, device, settings, adversary)
        with resumable(target, run_key(base, (tuning, settings), [*training, *kept_out])) as state:
            train(Run(model, architecture, state.run, target.name, device), objective, tuning, settings, state=state)


if __name__ == "__main__":
    command.run(main)
