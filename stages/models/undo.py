"""Tuning towards the centre: a leaning adapter, or the base, that learns both sides' answers to every question.

in   models/base/, the folder of an adapter (its last checkpoint is where tuning goes on) or models/base/, data/balanced/pairs.parquet
out  models/adapters/balanced-<start>/: step-000010/… and log.jsonl

Cross-entropy is least where a model gives each answer as often as the data hold it (a proper score: Gneiting and Raftery 2007, Journal of the American
Statistical Association 102:359). On pairs that hold an answer of either side to one question, that is a model that sides with neither, wherever it
started; a loss of preferences would lead back to its reference, the base, and leave a base that leans where it is. Tuning on both sides' texts is how
leaning models were balanced before (Lu et al. 2020, arXiv 1807.11714; Rozado 2024, PLOS ONE 19:e0306621).

An adapter's own LoRA matrices are trained further, so that a checkpoint is whole by itself, relative to the base.
"""

from pathlib import Path

from stages.core import command, params
from stages.core.files import sha256
from stages.core.runtime import Runtime
from stages.llm.tokenizer import Tokenizer, tokenizer_of
from stages.models import dpo
from stages.models.sft import Supervised
from stages.tuning.data import Sample, counted, split
from stages.tuning.distributed import say
from stages.tuning.launch import relaunched
from stages.tuning.loop import Run, affordable, train
from stages.tuning.placement import prepared
from stages.tuning.resume import resumable, run_key
from stages.tuning.settings import Schedule, Tuning
from stages.tuning.starting import fill, last_checkpoint, read


class Params(Schedule):
    """``params.yaml: undo``."""

    folder: str
    "where the starts lie"
    starts: tuple[str, ...]


def read_answers(pairs: Path, tokenizer: Tokenizer, max_length: int) -> list[tuple[str, Sample]]:
    """Both answers of every pair, each with the post that it comes from.

    :raises InputError: as :func:`stages.models.dpo.read_pairs`.
    """
    return [(post_id, answer) for post_id, pair in dpo.read_pairs(pairs, tokenizer, max_length) for answer in (pair.chosen, pair.rejected)]


def main(base: Path, start: Path, pairs: Path, target: Path) -> None:
    """Train one adapter."""
    schedule, runtime = params.load("undo", Params), params.load("runtime", Runtime)
    if relaunched(runtime.processes, "stages.models.undo", base, start, pairs, target):
        return
    tuning = affordable(params.load("tuning", Tuning), runtime.device)
    checkpoint = last_checkpoint(start)
    with tokenizer_of(base / "model.gguf") as tokenizer:
        found = read_answers(pairs, tokenizer, tuning.max_length)
    training, kept_out = split(found, tuning.held_out, str(pairs))
    say(f"{target.name}: {counted(training, 'answers', tuning.max_length)}")
    with prepared(base, tuning, runtime, training) as (architecture, model, device):
        if checkpoint:
            fill(model, read(checkpoint, tuning.lora), checkpoint)
        objective = Supervised(model, training, kept_out, device, runtime.micro_batch)
        key = run_key(base, (tuning, schedule.alone), [*training, *kept_out], sha256(checkpoint) if checkpoint else "")
        with resumable(target, key) as state:
            train(Run(model, architecture, state.run, target.name, device), objective, tuning, schedule, state=state)


if __name__ == "__main__":
    command.run(main)
