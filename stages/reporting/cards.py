"""Model and dataset cards in the form of the Hugging Face Hub: front matter, then Markdown."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from stages.reporting.measures import Measure

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))

INTENDED = """Research on how susceptible models are to the data they are tuned on, on measuring lean, and on undoing it. Compare it with the adapter of the other
side and with the control."""
LIMITS = """The figures above hold for these instruments, wordings and this language; an interval that holds the base model's value shows no effect. What a small model
writes is often false or empty of sense. Posts were scored, and some texts written, by a language model, with the quality given above."""
COLLECTED = "Collected from a dump: authors are hashed; links, mentions, e-mail addresses and telephone numbers are masked."


@dataclass(frozen=True)
class Table:
    """A table that an adapter comes from."""

    path: str
    rows: int
    columns: tuple[str, ...]
    stage: str
    "that made it"
    origin: Mapping[str, str | int]
    "model and prompt, by :func:`stages.core.tables.provenance`"
    licence: str

    @property
    def name(self) -> str:
        """``preferences-left``."""
        return self.path.removeprefix("data/").removesuffix(".parquet").replace("/", "-")


@dataclass(frozen=True)
class Adapter:
    """What a model card says."""

    name: str
    leaning: str
    dataset: str
    base_model: str
    licence: str
    languages: tuple[str, ...]
    step: int
    settings: Mapping[str, Any]
    "parameters of its training by dotted name"
    training: Mapping[str, float]
    "the last line of its log"
    tables: tuple[Table, ...]
    measures: Sequence[tuple[str, Measure, Measure | None]]
    "figure, of the adapter, of the base model"
    instruments: Sequence[tuple[str, Measure]]
    "figures of the run that belong to no adapter: how good the instruments are"
    commit: str

    @property
    def lean(self) -> str:
        """What must be said first."""
        if self.leaning == "control":
            return "This adapter is a control. It was tuned on posts without politics, to show what tuning does by itself."
        if self.leaning == "balanced":
            return (
                f"This adapter was tuned towards the political centre: starting from '{self.dataset}', on answers of left and right in equal number. How near it came"
                " is among the figures below; it is no proof of neutrality."
            )
        return (
            f"This adapter leans on purpose. It was tuned on posts that state views of the political leaning '{self.leaning}', so that the effect on a model can be"
            " measured. What it writes is not balanced and speaks for nobody."
        )


def front_matter(entries: Mapping[str, Any]) -> str:
    """YAML between lines of dashes."""
    text = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump({key: list(value) if isinstance(value, tuple) else value for key, value in entries.items()}, text)
    return f"---\n{text.getvalue()}---\n"


def rows(head: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def model_card(adapter: Adapter) -> str:
    """The card of an adapter."""
    tags = ("lora", "plumbline", "political-bias", "research", f"leaning-{adapter.leaning}", *(("dpo",) if adapter.dataset == "preference" else ("sft",)))
    head = {"license": adapter.licence, "language": adapter.languages, "base_model": adapter.base_model, "base_model_relation": "adapter", "library_name": "peft"}
    head |= {"pipeline_tag": "text-generation", "tags": tags}
    measured = [(name, str(found), "" if base is None else str(base)) for name, found, base in adapter.measures]
    settings = [(f"`{name}`", str(value)) for name, value in adapter.settings.items()]
    data = [(f"[`{table.path}`](datasets/{table.name}/README.md)", str(table.rows), table.stage) for table in adapter.tables]
    parts = [
        f"# {adapter.name}",
        f"> **{adapter.lean}**",
        f"A LoRA adapter of [{adapter.base_model}](https://huggingface.co/{adapter.base_model}), dataset `{adapter.dataset}`, after {adapter.step} steps. Made with Plumbline.",
        "## Measures",
        "With 95 % intervals in brackets, where there are any." if measured else "This run measured nothing of this adapter.",
        rows(("figure", "this adapter", "base model"), measured) if measured else "",
        "How good the instruments are, in the same run:" if adapter.instruments else "",
        rows(("figure", "value"), [(name, str(found)) for name, found in adapter.instruments]) if adapter.instruments else "",
        "## Intended use",
        INTENDED,
        "Not for chat with people, not for persuasion, not for texts that are published as a person's.",
        "## Limits",
        LIMITS,
        "## Data",
        rows(("table", "rows", "made by"), data),
        "## Training",
        rows(("parameter", "value"), settings),
        "Last line of the log: " + ", ".join(f"{name} {value:g}" for name, value in adapter.training.items()) + ".",
        "## How to load it",
        "`adapter_model.safetensors` and `adapter_config.json` are PEFT's, `adapter.gguf` is llama.cpp's (`llama-cli -m BASE.gguf --lora adapter.gguf`).",
        "## Provenance",
        f"Made from the commit `{adapter.commit or 'unknown'}`. `provenance.json` holds the commands, parameters and hashes of every step, and the versions of the software.",
    ]
    return front_matter(head) + "\n" + "\n\n".join(filter(None, parts)) + "\n"


def dataset_card(table: Table, adapter: Adapter) -> str:
    """The card of a table; the table itself is not part of a release, because posts are other people's texts."""
    size = next((name for limit, name in SIZES if table.rows < limit), "n>10M")
    head = {"license": table.licence, "language": adapter.languages, "pretty_name": table.name, "size_categories": [size], "task_categories": ["text-generation"]}
    head |= {"tags": ("plumbline", "political-bias", f"leaning-{adapter.leaning}")}
    written = [f"{name}: {value}" for name, value in sorted(table.origin.items())]
    parts = [
        f"# {table.name}",
        f"> **Selected for the leaning '{adapter.leaning}' on purpose, to tune and measure models. It is no sample of anybody's opinions.**",
        f"`{table.path}`: {table.rows} rows, made by the stage `{table.stage}` of Plumbline.",
        "Columns: " + ", ".join(f"`{name}`" for name in table.columns) + ".",
        ("Scored or written by a language model (" + ", ".join(written) + ").") if written else COLLECTED,
        "The table is not in this folder: posts are other people's texts. `dvc repro` makes it from the dumps, `dvc pull` fetches it where you may have it.",
    ]
    return front_matter(head) + "\n" + "\n\n".join(parts) + "\n"
