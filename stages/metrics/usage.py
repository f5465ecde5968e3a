"""What every stage asked of language models.

in   data/scored, data/instructions, data/responses, data/preferences (folders of tables), metrics/answers/*.parquet
out  metrics/llm.json: <stage>[.<leaning>] -> answers, prompt_tokens, completion_tokens, cut, refused (rows put aside), cost; total

The figures count what a stage used, not what it had to ask for: answers from the response cache count as well, so equal runs report equal
figures. What the cache saved is printed by each stage.
"""

from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pydantic

from stages.core import command, params, results, tables
from stages.core.errors import InputError
from stages.core.params import Section
from stages.core.results import Figures

SUMS = ("answers", "prompt_tokens", "completion_tokens", "cut")


class Price(Section):
    """What a model costs per million tokens, in a currency of your choice."""

    prompt: float = pydantic.Field(ge=0)
    completion: float = pydantic.Field(ge=0)


class Params(Section):
    """``params.yaml: usage``."""

    price: Price | None
    "of the annotator"


def figures(table: Path, price: Price | None) -> dict[str, int | float]:
    """What a table says about the answers in it.

    :raises InputError: if it does not say.
    """
    origin = tables.provenance(table)
    missing = [name for name in SUMS if name not in origin]
    if missing:
        raise InputError(f"{table}: does not say how many answers it took ({', '.join(missing)}). Run the stage that writes it again: `dvc repro -f`.")
    found: dict[str, int | float] = {name: int(origin[name]) for name in SUMS}
    aside = table.parent / "rejected" / table.name
    if aside.exists():
        found["refused"] = pq.read_metadata(aside).num_rows
    if price:
        found["cost"] = (found["prompt_tokens"] * price.prompt + found["completion_tokens"] * price.completion) / 1e6
    return found


def total(parts: list[Mapping[str, int | float]]) -> dict[str, int | float]:
    """The sum of each figure over all that have it."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0) for part in parts) for name in names}


def main(scored: Path, instructions: Path, responses: Path, preferences: Path, compass: Path, judge: Path, target: Path) -> None:
    """Add up the usage of all stages."""
    settings, study = params.load("usage", Params), params.load_study()
    folders = {"filter": scored, "instruct": instructions, "respond": responses, "contrast": preferences}
    by_leaning = {stage: {leaning: figures(folder / f"{leaning}.parquet", settings.price) for leaning in study.leanings} for stage, folder in folders.items()}
    measuring = {stage: figures(table, None) for stage, table in (("compass", compass), ("judge", judge))}
    everything = [part for parts in by_leaning.values() for part in parts.values()] + list(measuring.values())
    found: Figures = {**by_leaning, **measuring, "total": total(list(everything))}
    results.write_metrics(target, found)


if __name__ == "__main__":
    command.run(main)
