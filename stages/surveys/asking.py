"""The prompt that puts an item to a model (``prompts/simulate.yaml``), the same for training and for measuring.

The question comes before the persona: prompts about one item then begin alike, and what they share is evaluated once. Options are marked with
letters, and the answer is the letter, so that no option is favoured for its length.
"""

from collections.abc import Sequence
from pathlib import Path

from stages import prompts
from stages.errors import InputError
from stages.llm.interface import Prompt
from stages.prompts import Task

PROMPT = Path("prompts/simulate.yaml")


def load() -> Task:
    """Read the prompt file."""
    return prompts.load(PROMPT)


def marks(task: Task, k: int) -> tuple[str, ...]:
    """The letters of ``k`` options.

    :raises InputError: if the prompt file has fewer.
    """
    if k > len(task.options):
        raise InputError(f"{PROMPT}: options: has {len(task.options)} letters, and an item has {k} options. Add letters.")
    return task.options[:k]


def ask(task: Task, persona: str, question: str, options: Sequence[str]) -> Prompt:
    """The chat in which somebody like ``persona`` is asked, with ``options`` in this order."""
    listed = "\n".join(f"{mark}) {option}" for mark, option in zip(marks(task, len(options)), options, strict=True))
    return task.render("", {"persona": persona, "question": question, "options": listed})
