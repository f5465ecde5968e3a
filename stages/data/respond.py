"""A clean answer to each instruction, in the sense of the post, written by a language model.

in   data/instructions/<leaning>.parquet
out  data/responses/<leaning>.parquet: id, post_id, instruction, response (written)
     data/responses/rejected/<leaning>.parquet: what could not be used, with the reason
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

PROMPT = Path("prompts/respond.yaml")


class Params(Section):
    """``params.yaml: respond``."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int


def respond(rows: Sequence[dict[str, Any]], leaning: str, model: LanguageModel, task: Task, settings: Params) -> Rows:
    """Rows of ``data/responses``."""
    sampling = Sampling(settings.max_tokens, settings.temperature, settings.top_p, seed=settings.seed)
    asked = [
        (
            {"instruction": row["instruction"], "post": row["response"]},
            {"id": short_hash("respond", row["id"]), "post_id": row["post_id"], "instruction": row["instruction"]},
        )
        for row in rows
    ]
    return write(model, task, leaning, asked, "response", sampling)


def main(leaning: str, source: Path, target: Path, rejected: Path) -> None:
    """Write the answers of one leaning."""
    settings, annotator = params.load("respond", Params), params.load("annotator", Annotator)
    task = prompts.load(PROMPT)
    instructions = tables.read(source, tables.INSTRUCTIONS).to_pylist()
    with annotating_model(annotator, f"respond {leaning}") as model:
        rows = respond(instructions, leaning, model, task, settings)
        rows.save(f"respond {leaning}", target, rejected, tables.RESPONSES, model.provenance(PROMPT))


if __name__ == "__main__":
    command.run(main)
