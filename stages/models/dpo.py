"""Direct preference optimisation: LoRA adapters that prefer the answers of one leaning to their opposites.

in   models/base/, data/preferences/<leaning>.parquet (or any table with prompt, chosen and rejected)
out  models/adapters/<leaning>-preference/: step-000010/… and log.jsonl

The reference is the base model itself; its log-probabilities are computed once for a data set and kept under the repository root.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stages.core import command, params, tables
from stages.core.errors import InputError
from stages.core.files import replacing, short_hash
from stages.core.progress import Progress
from stages.core.runtime import Runtime
from stages.core.workspace import state_folder
from stages.llm.tokenizer import Tokenizer, tokenizer_of
from stages.tuning.architecture import Model, base_alone
from stages.tuning.data import Pair, Sample, answer_sample, counted, each_row, require_rows, split
from stages.tuning.distributed import add_up, from_first, rank, say, shares
from stages.tuning.launch import relaunched
from stages.tuning.loop import Part, Run, affordable, precision, train
from stages.tuning.losses import preference_loss, sample_log_probabilities
from stages.tuning.placement import prepared
from stages.tuning.resume import resumable, run_key
from stages.tuning.settings import Schedule, Tuning

PUBLIC = pa.schema({"prompt": pa.string(), "chosen": pa.string(), "rejected": pa.string()})


class Params(Schedule):
    """``params.yaml: dpo``."""

    beta: float = pydantic.Field(gt=0)


class Preference:
    """The loss of :func:`stages.tuning.losses.preference_loss`, averaged over the pairs of a batch."""

    def __init__(self, model: Model, training: Sequence[Pair], kept_out: Sequence[Pair], device: torch.device, micro_batch: int, beta: float) -> None:
        """``micro_batch``: how many pairs are evaluated at once; changes memory, not the result."""
        self.model, self.training, self.kept_out, self.device, self.micro_batch, self.beta = model, training, kept_out, device, micro_batch, beta
        self.reference: dict[str, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.training)

    def compute_reference(self, kept: Path | None = None) -> None:
        """Evaluate every pair once with the base model: ``reference[id]`` is [2], chosen and rejected.

        ``kept``: a file with what an earlier run found for these pairs; it is written if there is none.
        """
        pairs = sorted([*self.training, *self.kept_out], key=_length)
        found = from_first(_read_reference(kept, len(pairs)) if kept and rank() == 0 else None)
        if found is None:
            found = self._compute(pairs)
            if kept and rank() == 0:
                with replacing(kept) as temporary:
                    save_file({"reference": found.cpu()}, temporary)
        self.reference = dict(zip((pair.id for pair in pairs), found.to(self.device), strict=True))

    def _compute(self, pairs: Sequence[Pair]) -> torch.Tensor:
        found = torch.zeros(len(pairs), 2, device=self.device)
        place = {pair.id: i for i, pair in enumerate(pairs)}
        bar = Progress("reference", len(pairs), "pairs") if rank() == 0 else None
        with base_alone(self.model):
            for group, weight in shares(pairs, self.micro_batch):
                rows = [place[pair.id] for pair in group]
                found[rows] += weight * torch.stack(self._evaluate(group).chunk(2), dim=1)  # [n, 2]
                if bar:
                    bar.add(len(group))
        if bar:
            bar.close()
        return add_up(found)

    def _evaluate(self, pairs: Sequence[Pair]) -> torch.Tensor:
        samples: list[Sample] = [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]
        return sample_log_probabilities(self.model, samples, self.device)

    def _losses(self, pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
        reference = torch.stack([self.reference[pair.id] for pair in pairs], dim=1).reshape(-1)  # [2n], chosen first
        return preference_loss(self._evaluate(pairs), reference, self.beta)

    def parts(self, indices: Sequence[int]) -> Iterator[Part]:
        """See :class:`stages.tuning.loop.Objective`. ``accuracy``: share of pairs whose chosen answer gained more; ``margin``: by how much."""
        pairs = sorted((self.training[i] for i in indices), key=_length)
        for group, weight in shares(pairs, self.micro_batch):
            losses, margins = self._losses(group)
            part = weight / len(pairs)
            yield losses.sum() * part, {"accuracy": (margins > 0).sum() * part, "margin": margins.sum() * part}

    def tokens(self, indices: Sequence[int]) -> int:
        """See :class:`stages.tuning.loop.Objective`."""
        return sum(len(self.training[i].chosen.tokens) + len(self.training[i].rejected.tokens) for i in indices)

    def held_out(self) -> dict[str, float]:
        """Loss, accuracy and margin on the pairs kept from training."""
        if not self.kept_out:
            return {}
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        for group, weight in shares(self.kept_out, self.micro_batch):
            losses, margins = self._losses(group)
            sums += weight * torch.stack([losses.sum(), (margins > 0).sum(), margins.sum()]).double()
        loss, accuracy, margin = (add_up(sums) / len(self.kept_out)).tolist()
        return {"loss": loss, "accuracy": accuracy, "margin": margin, "pairs": len(self.kept_out)}


def _read_reference(file: Path, n: int) -> torch.Tensor | None:
    try:
        found = load_file(file)["reference"]
        if found.shape != (n, 2) or not bool(found.isfinite().all()):
            raise ValueError(f"it does not hold {n} pairs of finite numbers")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        print(f"{file}: is damaged ({error}); the reference is computed anew.", file=sys.stderr)
        return None
    return found


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

    def pair(row: tuple[dict[str, str], dict[str, str]]) -> tuple[str, Pair]:
        entry, content = row
        answers = [answer_sample(tokenizer, entry["id"], content["prompt"], content[name], max_length) for name in ("chosen", "rejected")]
        return entry["post_id"], Pair(entry["id"], *answers)

    return each_row(table, zip(ids, rows, strict=True), pair)


def main(base: Path, preferences: Path, target: Path) -> None:
    """Train one adapter."""
    schedule, runtime = params.load("dpo", Params), params.load("runtime", Runtime)
    if relaunched(runtime.processes, "stages.models.dpo", base, preferences, target):
        return
    tuning = affordable(params.load("tuning", Tuning), runtime.device)
    with tokenizer_of(base / "model.gguf") as tokenizer:
        found = read_pairs(preferences, tokenizer, tuning.max_length)
    training, kept_out = split(found, tuning.held_out, str(preferences))
    say(f"{target.name}: {counted(training, 'pairs', tuning.max_length)}")
    both = [sample for pair in training for sample in (pair.chosen, pair.rejected)]
    with prepared(base, tuning, runtime, both, at_once=2) as (architecture, model, device):
        objective = Preference(model, training, kept_out, device, runtime.micro_batch, schedule.beta)
        reference = run_key(base, (), [*training, *kept_out], f"{tuning.precision} {tuning.base_precision}")
        with resumable(target, run_key(base, (tuning, schedule), [*training, *kept_out])) as state:
            with precision(device, tuning.precision):
                objective.compute_reference(state_folder("reference") / f"{reference}.safetensors")
            train(Run(model, architecture, state.run, target.name, device), objective, tuning, schedule, state=state)


if __name__ == "__main__":
    command.run(main)
