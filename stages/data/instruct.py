"""The instruction that each kept post answers, written by a language model.

in   data/scored/<leaning>.parquet
out  data/instructions/<leaning>.parquet: id, post_id, instruction, response (the post)
     data/instructions/rejected/<leaning>.parquet: what could not be used, with the reason
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core import command, params, tables
from stages.core.files import short_hash
from stages.core.params import Section
from stages.llm import prompts
from stages.llm.injection import shown
from stages.llm.interface import LanguageModel, Sampling
from stages.llm.local import Annotator, annotating_model
from stages.llm.prompts import Task
from stages.llm.writing import Rows, write

PROMPT = Path("prompts/instruct.yaml")


class Params(Section):
    """``params.yaml: instruct``."""

    limit: int
    "posts a leaning, the surest first: the same budget for every leaning"
    max_tokens: int
    temperature: float
    seed: int


def choose_posts(scored: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The kept posts with the highest expected scores, at most ``limit``, in the order of the table."""
    kept = [(i, row) for i, row in enumerate(scored) if row["kept"]]
    surest = sorted(kept, key=lambda entry: (-sum(k * entry[1][f"p{k}"] for k in range(4)), entry[0]))[:limit]
    return [row for _, row in sorted(surest, key=lambda entry: entry[0])]


def instruct(posts: Sequence[dict[str, Any]], leaning: str, model: LanguageModel, task: Task, settings: Params, max_characters: int) -> Rows:
    """Rows of ``data/instructions``."""
    sampling = Sampling(settings.max_tokens, settings.temperature, seed=settings.seed)
    asked = [({"post": shown(post["text"], max_characters)}, {"id": short_hash("instruct", post["id"]), "post_id": post["id"], "response": post["text"]}) for post in posts]
    return write(model, task, leaning, asked, "instruction", sampling)


def main(leaning: str, source: Path, target: Path, rejected: Path) -> None:
    """Write the instructions of one leaning."""
    settings, annotator = params.load("instruct", Params), params.load("annotator", Annotator)
    task = prompts.load(PROMPT)
    posts = choose_posts(tables.read(source, tables.SCORED).to_pylist(), settings.limit)
    with annotating_model(annotator, f"instruct {leaning}") as model:
        rows = instruct(posts, leaning, model, task, settings, annotator.max_characters)
        rows.save(f"instruct {leaning}", target, rejected, tables.INSTRUCTIONS, model.provenance(PROMPT))


if __name__ == "__main__":
    command.run(main)
