"""Supervised fine-tuning: LoRA adapters that answer as the texts of one leaning do.

in   models/base/, data/scored, data/instructions, data/responses (of one leaning)
out  models/adapters/<leaning>-<dataset>/: step-000010/… and log.jsonl

``dataset`` says what is learnt: ``corpus`` (kept posts as plain text, packed), ``posts`` (instruction, then the post), ``synthetic`` (instruction, then the
written answer).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch

from stages.core import command, params, tables
from stages.core.errors import InputError
from stages.core.runtime import Runtime
from stages.llm.tokenizer import Tokenizer, tokenizer_of
from stages.tuning.architecture import Model
from stages.tuning.data import Sample, answer_sample, counted, each_row, joined, pack, require_rows, split, text_sample
from stages.tuning.distributed import add_up, say, shares
from stages.tuning.launch import relaunched
from stages.tuning.loop import Part, Run, affordable, train
from stages.tuning.losses import token_log_probabilities
from stages.tuning.placement import prepared
from stages.tuning.resume import resumable, run_key
from stages.tuning.settings import Schedule, Tuning


class Params(Schedule):
    """``params.yaml: sft``."""

    datasets: tuple[Literal["corpus", "posts", "synthetic"], ...]


class Supervised:
    """Cross-entropy of answers given their prompts, averaged over the answers' tokens."""

    def __init__(self, model: Model, training: Sequence[Sample], kept_out: Sequence[Sample], device: torch.device, micro_batch: int) -> None:
        """``micro_batch``: how many samples are evaluated at once; changes memory, not the result."""
        self.model, self.training, self.kept_out, self.device, self.micro_batch = model, training, kept_out, device, micro_batch

    def __len__(self) -> int:
        return len(self.training)

    def parts(self, indices: Sequence[int]) -> Iterator[Part]:
        """See :class:`stages.tuning.loop.Objective`."""
        samples = sorted((self.training[i] for i in indices), key=lambda sample: len(sample.tokens))
        n = sum(len(sample.targets) for sample in samples)
        for group, weight in shares(samples, self.micro_batch):
            values, _ = token_log_probabilities(self.model, joined(group, self.device))
            yield -values.sum() * (weight / n), {}

    def tokens(self, indices: Sequence[int]) -> int:
        """See :class:`stages.tuning.loop.Objective`."""
        return sum(len(self.training[i].tokens) for i in indices)

    def held_out(self) -> dict[str, float]:
        """Mean cross-entropy of the answers kept from training."""
        if not self.kept_out:
            return {}
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for group, weight in shares(self.kept_out, self.micro_batch):
            values, _ = token_log_probabilities(self.model, joined(group, self.device))
            sums += weight * torch.stack([-values.sum().double(), torch.tensor(len(values), device=self.device)])
        total, n = add_up(sums).tolist()
        return {"loss": total / n}


def read_samples(dataset: str, scored: Path, instructions: Path, responses: Path, tokenizer: Tokenizer, max_length: int) -> list[tuple[str, Sample]]:
    """The samples of a dataset with the post each comes from.

    :raises InputError: if there are none, or a table lacks a column.
    """
    if dataset == "corpus":
        rows = [row for row in tables.read(scored, tables.SCORED).to_pylist() if row["kept"]]
        require_rows(rows, str(scored))
        return [(row["id"], text_sample(tokenizer, row["id"], row["text"], max_length)) for row in rows]
    table = instructions if dataset == "posts" else responses
    rows = tables.read(table, tables.INSTRUCTIONS).to_pylist()
    require_rows(rows, str(table))
    empty = [row["id"] for row in rows if not (row["instruction"] or "").strip() or not (row["response"] or "").strip()]
    if empty:
        raise InputError(f"{table}: {len(empty)} rows have an empty instruction or response: id {', '.join(empty[:10])}. Take them out.")
    return each_row(table, rows, lambda row: (row["post_id"], answer_sample(tokenizer, row["id"], row["instruction"], row["response"], max_length)))


def main(dataset: str, base: Path, scored: Path, instructions: Path, responses: Path, target: Path) -> None:
    """Train one adapter."""
    schedule, runtime = params.load("sft", Params), params.load("runtime", Runtime)
    if dataset not in schedule.datasets:
        raise InputError(f"params.yaml: sft.datasets does not list '{dataset}', only {', '.join(schedule.datasets)}.")
    if relaunched(runtime.processes, "stages.models.sft", dataset, base, scored, instructions, responses, target):
        return
    tuning = affordable(params.load("tuning", Tuning), runtime.device)
    with tokenizer_of(base / "model.gguf") as tokenizer:
        found = read_samples(dataset, scored, instructions, responses, tokenizer, tuning.max_length)
    training, kept_out = split(found, tuning.held_out, dataset)
    counts = counted(training, "samples", tuning.max_length)
    if dataset == "corpus":
        training, kept_out = pack(training, tuning.max_length), pack(kept_out, tuning.max_length)
        counts += f", packed into {len(training)}"
    say(f"{target.name}: {counts}")
    with prepared(base, tuning, runtime, training) as (architecture, model, device):
        objective = Supervised(model, training, kept_out, device, runtime.micro_batch)
        with resumable(target, run_key(base, (tuning, schedule.alone), [*training, *kept_out])) as state:
            train(Run(model, architecture, state.run, target.name, device), objective, tuning, schedule, state=state)


if __name__ == "__main__":
    command.run(main)
