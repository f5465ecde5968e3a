"""The prompt that puts an item to a model (``prompts/simulate.yaml``), the same for training and for measuring.

The question comes before the persona: prompts about one item then begin alike, and what they share is evaluated once. The answer is an option in its
own words. Letters instead would be one token each, but a small model hardly learns which letter stands for which option in a changing order.
"""

from collections.abc import Sequence
from pathlib import Path

from stages.llm import prompts
from stages.llm.interface import Prompt
from stages.llm.prompts import Task

PROMPT = Path("prompts/simulate.yaml")


def load() -> Task:
    """Read the prompt file."""
    return prompts.load(PROMPT)


def ask(task: Task, persona: str, question: str, options: Sequence[str]) -> Prompt:
    """The chat in which somebody like ``persona`` is asked, with ``options`` in this order."""
    return task.render("", {"persona": persona, "question": question, "options": "\n".join(f"- {option}" for option in options)})
