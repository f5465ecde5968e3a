"""Direct preference optimisation: LoRA adapters that prefer the answers of one leaning to their opposites.

in   models/base/, data/preferences/<leaning>.parquet (or any table with prompt, chosen and rejected)
out  models/adapters/<leaning>-preference/: step-000010/… and log.jsonl

The reference is the base model itself; its log-probabilities are computed once, before the first step.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import torch
from torchtune.modules import TransformerDecoder
from torchtune.modules.peft import disable_adapter

from stages import command, params, tables
from stages.errors import InputError
from stages.files import replacing, short_hash
from stages.llm.tokenizer import Tokenizer, tokenizer_of
from stages.progress import Progress
from stages.runtime import Runtime
from stages.tuning import weights
from stages.tuning.data import Pair, Sample, answer_sample, held_out, pad, require_rows
from stages.tuning.loop import Run, Schedule, Tuning, pick_device, precision, train
from stages.tuning.losses import preference_loss, sample_log_probabilities

PUBLIC = pa.schema({"prompt": pa.string(), "chosen": pa.string(), "rejected": pa.string()})


class Params(Schedule):
    """``params.yaml: dpo``."""

    beta: float = pydantic.Field(gt=0)


class Preference:
    """The loss of :func:`stages.tuning.losses.preference_loss`, averaged over the pairs of a batch."""

    def __init__(self, model: TransformerDecoder, training: Sequence[Pair], kept_out: Sequence[Pair], device: torch.device, micro_batch: int, beta: float) -> None:
        """``micro_batch``: how many pairs are evaluated at once; changes memory, not the result."""
        self.model, self.training, self.kept_out, self.device, self.micro_batch, self.beta = model, training, kept_out, device, micro_batch, beta
        self.reference: dict[str, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.training)

    def compute_reference(self) -> None:
        """Evaluate every pair once with the base model: ``reference[id]`` is [2], chosen and rejected."""
        pairs = sorted([*self.training, *self.kept_out], key=_length)
        bar = Progress("reference", len(pairs), "pairs")
        with disable_adapter(self.model), torch.no_grad():
            for first in range(0, len(pairs), self.micro_batch):
                group = pairs[first : first + self.micro_batch]
                both = torch.stack(self._evaluate(group).chunk(2), dim=1)  # [n, 2]
                self.reference |= {pair.id: both[i] for i, pair in enumerate(group)}
                bar.add(len(group))
        bar.close()

    def _evaluate(self, pairs: Sequence[Pair]) -> torch.Tensor:
        samples: list[Sample] = [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]
        return sample_log_probabilities(self.model, pad(samples, self.device))

    def _losses(self, pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
        reference = torch.stack([self.reference[pair.id] for pair in pairs], dim=1).reshape(-1)  # [2n], chosen first
        return preference_loss(self._evaluate(pairs), reference, self.beta)

    def parts(self, indices: Sequence[int]) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        """See :class:`stages.tuning.loop.Objective`. ``accuracy``: share of pairs whose chosen answer gained more; ``margin``: by how much."""
        pairs = sorted((self.training[i] for i in indices), key=_length)
        for first in range(0, len(pairs), self.micro_batch):
            losses, margins = self._losses(pairs[first : first + self.micro_batch])
            yield losses.sum() / len(pairs), {"accuracy": float((margins > 0).sum()) / len(pairs), "margin": float(margins.sum()) / len(pairs)}

    def tokens(self, indices: Sequence[int]) -> int:
        """See :class:`stages.tuning.loop.Objective`."""
        return sum(len(self.training[i].chosen.tokens) + len(self.training[i].rejected.tokens) for i in indices)

    def held_out(self) -> dict[str, float]:
        """Loss, accuracy and margin on the pairs kept from training."""
        losses, margins = [], []
        for first in range(0, len(self.kept_out), self.micro_batch):
            loss, margin = self._losses(self.kept_out[first : first + self.micro_batch])
            losses.append(loss)
            margins.append(margin)
        if not losses:
            return {}
        all_margins = torch.cat(margins)
        return {"loss": float(torch.cat(losses).mean()), "accuracy": float((all_margins > 0).float().mean()), "margin": float(all_margins.mean())}


def _length(pair: Pair) -> int:
    return max(len(pair.chosen.tokens), len(pair.rejected.tokens))


def read_pairs(table: Path, tokenizer: Tokenizer, max_length: int) -> list[tuple[str, Pair]]:
    """The pairs of a table with the post each comes from; rows of public preference sets, which have no ids, get some.

    :raises InputError: if there are none, a column is missing, or a row's answers are empty or equal.
    """
    rows = tables.read(table, PUBLIC).to_pylist()
    require_rows(rows, str(table))
    if set(pq.read_schema(table).names) >= set(tables.PREFERENCES.names):
        ids = tables.read(table, tables.PREFERENCES).select(["id", "post_id"]).to_pylist()
    else:  # pairs of one prompt are kept from training together
        ids = [{"id": short_hash(row["prompt"], row["chosen"], row["rejected"]), "post_id": short_hash(row["prompt"])} for row in rows]
    texts = [(entry["id"], *((row[name] or "").strip() for name in PUBLIC.names)) for entry, row in zip(ids, rows, strict=True)]
    broken = [row_id for row_id, *found in texts if not all(found) or found[1] == found[2]]
    if broken:
        raise InputError(f"{table}: {len(broken)} rows have an empty prompt or answer, or the same answer twice: id {', '.join(broken[:10])}. Take them out.")
    doubled = [row_id for row_id, n in Counter(entry["id"] for entry in ids).items() if n > 1]
    if doubled:
        raise InputError(f"{table}: {len(doubled)} ids stand in more than one row: {', '.join(doubled[:10])}. Leave each pair once.")
    return [
        (
            entry["post_id"],
            Pair(
                entry["id"],
                answer_sample(tokenizer, entry["id"], row["prompt"], row["chosen"], max_length),
                answer_sample(tokenizer, entry["id"], row["prompt"], row["rejected"], max_length),
            ),
        )
        for entry, row in zip(ids, rows, strict=True)
    ]


def main(base: Path, preferences: Path, target: Path) -> None:
    """Train one adapter."""
    schedule, tuning, runtime = params.load("dpo", Params), params.load("tuning", Tuning), params.load("runtime", Runtime)
    device = pick_device(runtime.device)
    with tokenizer_of(base / "model.gguf") as tokenizer:
        found = read_pairs(preferences, tokenizer, tuning.max_length)
    kept_out = held_out([post_id for post_id, _ in found], tuning.held_out)
    architecture, model = weights.load_model(base, tuning.lora, device, tuning.seed, tuning.precision)
    training = [pair for (_, pair), out in zip(found, kept_out, strict=True) if not out]
    require_rows(training, f"{preferences} without the tuning.held_out share of {tuning.held_out}")
    objective = Preference(model, training, [pair for (_, pair), out in zip(found, kept_out, strict=True) if out], device, runtime.micro_batch, schedule.beta)
    print(f"{target.name}: {len(training)} pairs, {sum(pair.chosen.truncated or pair.rejected.truncated for pair in training)} of them cut at {tuning.max_length} tokens")
    with precision(device, tuning.precision):
        objective.compute_reference()
    with replacing(target) as folder:
        folder.mkdir()
        train(Run(model, architecture, folder, target.name, device), objective, tuning, schedule)


if __name__ == "__main__":
    command.run(main)
