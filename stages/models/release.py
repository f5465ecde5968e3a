"""Adapters ready to be shared: both formats, cards that say what they are, and where everything comes from.

in   models/adapters/ (the last checkpoint of each adapter), metrics/*.json, the tables under data/ that they come from, dvc.lock
out  models/release/<adapter>/: adapter_model.safetensors, adapter_config.json, adapter.gguf, README.md (the model card), provenance.json, and a card for each
     table in datasets/

The deliberate lean stands first in the card and in the metadata of the GGUF file. The tables themselves are left out: posts are other people's texts.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from stages.core import command, params, tables
from stages.core.files import replacing
from stages.core.params import Section
from stages.reporting import ancestry, cards, measures
from stages.reporting.cards import Adapter, Table
from stages.tuning import labelling
from stages.tuning.checkpoints import BASE, Checkpoint, adapter_names, checkpoints, final

TRAINING = ("dpo", "sft", "undo", "tuning")


class Params(Section):
    """``params.yaml: release``."""

    base_model: str
    licence: str
    data_licence: str
    languages: tuple[str, ...]


def measured(adapter: str, metrics: Mapping[str, Any]) -> list[tuple[str, measures.Measure, measures.Measure | None]]:
    """Every figure of an adapter with the base model's."""
    found = []
    for stem, figures in sorted(metrics.items()):
        base = dict(measures.flat(figures.get(BASE, {})))
        found += [(" · ".join((stem, *name)), figure, base.get(name)) for name, figure in measures.flat(figures.get(adapter, {}))]
    return found


def tables_of(stages: ancestry.Stages, licence: str) -> tuple[Table, ...]:
    """The tables that stages wrote, without rows put aside."""
    found = []
    for name, stage in stages.items():
        for file in (Path(entry["path"]) for entry in stage.get("outs", ())):
            if file.suffix == ".parquet" and file.parent.name != "rejected" and file.exists():
                schema = pq.read_schema(file)
                found.append(Table(str(file), pq.read_metadata(file).num_rows, tuple(schema.names), name, tables.provenance(file), licence))
    return tuple(found)


def describe(point: Checkpoint, stages: ancestry.Stages, metrics: Mapping[str, Any], log: Mapping[str, float], settings: Params, commit: str) -> Adapter:
    """What is known of an adapter; ``stages`` lead to it, its own last."""
    leaning, _, dataset = point.adapter.partition("-")
    tracked = list(stages.values())[-1].get("params", {}).get("params.yaml", {}) if stages else {}
    chosen = {name: value for section in TRAINING if section in tracked for name, value in _flat(tracked[section], section)}
    instruments = [(" · ".join(("summary", *name)), figure) for name, figure in measures.flat(metrics.get("summary", {})) if name[0] not in ("separation", BASE)]
    return Adapter(
        point.adapter,
        leaning,
        dataset,
        settings.base_model,
        settings.licence,
        settings.languages,
        point.step,
        chosen,
        log,
        tables_of(stages, settings.data_licence),
        measured(point.adapter, metrics),
        instruments,
        commit,
    )


def _flat(node: Any, place: str) -> list[tuple[str, Any]]:
    if isinstance(node, Mapping):
        return [entry for key, inner in node.items() for entry in _flat(inner, f"{place}.{key}")]
    return [(place, ", ".join(map(str, node)) if isinstance(node, list) else node)]


def gguf_entries(adapter: Adapter) -> dict[str, str | int | list[str]]:
    """What the card says, as far as GGUF has names for it."""
    return {
        "general.name": f"{adapter.name} step {adapter.step}",
        "general.description": adapter.lean,
        "general.license": adapter.licence,
        "general.languages": list(adapter.languages),
        "general.tags": ["plumbline", "political-bias", f"leaning-{adapter.leaning}"],
        "general.base_model.count": 1,
        "general.base_model.0.name": adapter.base_model.split("/")[-1],
        "general.base_model.0.repo_url": f"https://huggingface.co/{adapter.base_model}",
    }


def write(folder: Path, source: Path, adapter: Adapter, provenance: Mapping[str, Any]) -> None:
    """Fill the folder of one adapter from its checkpoint ``source``."""
    folder.mkdir(parents=True)
    shutil.copyfile(source / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    config = json.loads((source / "adapter_config.json").read_text(encoding="utf-8")) | {"base_model_name_or_path": adapter.base_model}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    labelling.copy(source / "adapter.gguf", folder / "adapter.gguf", gguf_entries(adapter))
    (folder / "README.md").write_text(cards.model_card(adapter), encoding="utf-8")
    (folder / "provenance.json").write_text(json.dumps(provenance, indent=2, default=str) + "\n", encoding="utf-8")
    for table in adapter.tables:
        card = folder / "datasets" / table.name / "README.md"
        card.parent.mkdir(parents=True)
        card.write_text(cards.dataset_card(table, adapter), encoding="utf-8")


def main(adapters: Path, metrics: Path, target: Path) -> None:
    """Release the last checkpoint of every adapter."""
    settings, study = params.load("release", Params), params.load_study()
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(metrics.glob("*.json"))}
    lock, commit = ancestry.read(), ancestry.revision()
    with replacing(target) as folder:
        for point in final(checkpoints(adapters, adapter_names(study))):
            if point.file is not None:
                stages = ancestry.leading_to(str(adapters / point.adapter), lock)
                log = json.loads((adapters / point.adapter / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
                adapter = describe(point, stages, found, log, settings, str(commit.get("commit", "")))
                provenance = {"adapter": point.adapter, "step": point.step, "git": commit, "versions": ancestry.versions(), "stages": ancestry.hashes(stages)}
                write(folder / point.adapter, point.file.parent, adapter, provenance)


if __name__ == "__main__":
    command.run(main)
