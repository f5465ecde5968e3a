"""A clean answer to each instruction, in the sense of the post, written by a language model.

in   data/instructions/<leaning>.parquet
out  data/responses/<leaning>.parquet: id, post_id, instruction, response (written)
     data/responses/rejected/<leaning>.parquet: what could not be used, with the reason
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages import command, params, prompts, tables
from stages.files import short_hash
from stages.llm.interface import LanguageModel, Sampling
from stages.llm.local import Annotator, local_model
from stages.llm.writing import write
from stages.params import Section
from stages.prompts import Task


class Params(Section):
    """``params.yaml: respond``."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int


def respond(rows: Sequence[dict[str, Any]], leaning: str, model: LanguageModel, task: Task, settings: Params) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows of ``data/responses`` and rejected ones."""
    sampling = Sampling(settings.max_tokens, settings.temperature, settings.top_p, seed=settings.seed)
    given = [{"instruction": row["instruction"], "post": row["response"]} for row in rows]
    good, bad = [], []
    for row, answer in zip(rows, write(model, task, leaning, given, sampling, "respond"), strict=True):
        made = {"id": short_hash("respond", row["id"]), "post_id": row["post_id"], "instruction": row["instruction"], "response": answer.text}
        if answer.reason:
            bad.append(made | {"reason": answer.reason})
        else:
            good.append(made)
    return good, bad


def main(leaning: str, source: Path, target: Path, rejected: Path) -> None:
    """Write the answers of one leaning."""
    settings, annotator = params.load("respond", Params), params.load("annotator", Annotator)
    task = prompts.load(Path("prompts/respond.yaml"))
    rows = tables.read(source, tables.INSTRUCTIONS).to_pylist()
    with local_model(annotator.file, annotator.context) as model:
        good, bad = respond(rows, leaning, model.cached, task, settings)
    tables.write(target, good, tables.RESPONSES)
    tables.write(rejected, bad, tables.rejects(tables.RESPONSES))
    print(f"respond {leaning}: {len(good)} written, {len(bad)} rejected {dict(Counter(row['reason'] for row in bad))}", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
