"""Supervised fine-tuning: LoRA adapters that answer as the texts of one leaning do.

in   models/base/, data/scored, data/instructions, data/responses (of one leaning)
out  models/adapters/<leaning>-<dataset>/: step-000010/… and log.jsonl

``dataset`` says what is learnt: ``corpus`` (kept posts as plain text), ``posts`` (instruction, then the post), ``synthetic`` (instruction, then the
written answer).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from torchtune.modules import TransformerDecoder

from stages import command, params, tables
from stages.errors import InputError
from stages.files import replacing
from stages.llm.tokenizer import Tokenizer, tokenizer_of
from stages.runtime import Runtime
from stages.tuning import weights
from stages.tuning.data import Sample, answer_sample, held_out, pad, require_rows, text_sample
from stages.tuning.loop import Run, Schedule, Tuning, pick_device, train
from stages.tuning.losses import token_log_probabilities


class Params(Schedule):
    """``params.yaml: sft``."""

    datasets: tuple[Literal["corpus", "posts", "synthetic"], ...]


class Supervised:
    """Cross-entropy of answers given their prompts, averaged over the answers' tokens."""

    def __init__(self, model: TransformerDecoder, training: Sequence[Sample], kept_out: Sequence[Sample], device: torch.device, micro_batch: int) -> None:
        """``micro_batch``: how many samples are evaluated at once; changes memory, not the result."""
        self.model, self.training, self.kept_out, self.device, self.micro_batch = model, training, kept_out, device, micro_batch

    def __len__(self) -> int:
        return len(self.training)

    def parts(self, indices: Sequence[int]) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        """See :class:`stages.tuning.loop.Objective`."""
        samples = sorted((self.training[i] for i in indices), key=lambda sample: len(sample.tokens))
        n = sum(len(sample.tokens) - sample.start for sample in samples)
        for first in range(0, len(samples), self.micro_batch):
            values, _ = token_log_probabilities(self.model, pad(samples[first : first + self.micro_batch], self.device))
            yield -values.sum() / n, {}

    def tokens(self, indices: Sequence[int]) -> int:
        """See :class:`stages.tuning.loop.Objective`."""
        return sum(len(self.training[i].tokens) for i in indices)

    def held_out(self) -> dict[str, float]:
        """Mean cross-entropy of the answers kept from training."""
        total, n = 0.0, 0
        for first in range(0, len(self.kept_out), self.micro_batch):
            values, _ = token_log_probabilities(self.model, pad(self.kept_out[first : first + self.micro_batch], self.device))
            total, n = total - float(values.sum()), n + len(values)
        return {"loss": total / n} if n else {}


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
    return [(row["post_id"], answer_sample(tokenizer, row["id"], row["instruction"], row["response"], max_length)) for row in rows]


def main(dataset: str, base: Path, scored: Path, instructions: Path, responses: Path, target: Path) -> None:
    """Train one adapter."""
    schedule, tuning, runtime = params.load("sft", Params), params.load("tuning", Tuning), params.load("runtime", Runtime)
    if dataset not in schedule.datasets:
        raise InputError(f"params.yaml: sft.datasets does not list '{dataset}', only {', '.join(schedule.datasets)}.")
    device = pick_device(runtime.device)
    with tokenizer_of(base / "model.gguf") as tokenizer:
        found = read_samples(dataset, scored, instructions, responses, tokenizer, tuning.max_length)
    kept_out = held_out([post_id for post_id, _ in found], tuning.held_out)
    architecture, model = weights.load_model(base, tuning.lora, device, tuning.seed, tuning.precision)
    training = [sample for (_, sample), out in zip(found, kept_out, strict=True) if not out]
    require_rows(training, f"{dataset} without the tuning.held_out share of {tuning.held_out}")
    objective = Supervised(model, training, [sample for (_, sample), out in zip(found, kept_out, strict=True) if out], device, runtime.micro_batch)
    print(f"{target.name}: {len(training)} samples, {sum(sample.truncated for sample in training)} of them cut at {tuning.max_length} tokens")
    with replacing(target) as folder:
        folder.mkdir()
        train(Run(model, architecture, folder, target.name, device), objective, tuning, schedule)


if __name__ == "__main__":
    command.run(main)
