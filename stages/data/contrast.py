"""The opposing answer to each instruction, written by a language model: preference pairs.

in   data/responses/<leaning>.parquet
out  data/preferences/<leaning>.parquet: id, post_id, prompt, chosen (the leaning's answer), rejected (the opposing one)
     data/preferences/rejected/<leaning>.parquet: what could not be used, with the reason
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core import command, params, tables
from stages.core.files import short_hash
from stages.core.params import Section
from stages.llm import prompts
from stages.llm.interface import LanguageModel, Sampling
from stages.llm.local import Annotator, annotating_model
from stages.llm.prompts import Task
from stages.llm.writing import Rows, write

PROMPT = Path("prompts/contrast.yaml")


class Params(Section):
    """``params.yaml: contrast``."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int


def contrast(rows: Sequence[dict[str, Any]], leaning: str, model: LanguageModel, task: Task, settings: Params) -> Rows:
    """Rows of ``data/preferences``."""
    sampling = Sampling(settings.max_tokens, settings.temperature, settings.top_p, seed=settings.seed)
    asked = [
        (
            {"instruction": row["instruction"], "answer": row["response"]},
            {"id": short_hash("contrast", row["id"]), "post_id": row["post_id"], "prompt": row["instruction"], "chosen": row["response"]},
        )
        for row in rows
    ]
    return write(model, task, leaning, asked, "rejected", sampling)


def main(leaning: str, source: Path, target: Path, rejected: Path) -> None:
    """Write the pairs of one leaning."""
    settings, annotator = params.load("contrast", Params), params.load("annotator", Annotator)
    task = prompts.load(PROMPT)
    responses = tables.read(source, tables.RESPONSES).to_pylist()
    with annotating_model(annotator, f"contrast {leaning}") as model:
        rows = contrast(responses, leaning, model, task, settings)
        rows.save(f"contrast {leaning}", target, rejected, tables.PREFERENCES, model.provenance(PROMPT))


if __name__ == "__main__":
    command.run(main)
