"""Which judges there are, how the stage ``judge`` uses them, and what opens them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, assert_never

import pydantic

from stages.core.errors import InputError
from stages.core.files import sha256
from stages.core.params import Section
from stages.instruments import judges, language_judge
from stages.instruments.judges import Judge
from stages.instruments.language_judge import LanguageJudge
from stages.instruments.lean_classifier import LeanClassifier
from stages.llm.local import Annotator, annotating_model

Name = Literal["classifier", "llm"]


class Params(Section):
    """``params.yaml: judge``."""

    judges: tuple[Name, ...] = pydantic.Field(min_length=1)
    "who scores; the first one's scores are the stage's, the others' are told beside them"
    model: Annotator
    "the language model behind ``llm``"
    min_valid: float = pydantic.Field(ge=0, le=1)
    judge_own_model: bool
    repeats: int = pydantic.Field(ge=1)
    repeats_underway: int = pydantic.Field(ge=1)
    max_tokens: int = pydantic.Field(ge=1)
    temperature: float = pydantic.Field(ge=0)
    top_k: int = pydantic.Field(ge=0)
    seed: int

    @pydantic.field_validator("judges")
    @classmethod
    def _differ(cls, value: tuple[Name, ...]) -> tuple[Name, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a judge twice")
        return value


@contextmanager
def opened(name: Name, settings: Params, training: Path) -> Iterator[Judge]:
    """A judge, ready to be asked; ``training`` is what the classifier learns from.

    :raises InputError: if its model, prompt or training texts cannot be used.
    """
    if name == "classifier":
        yield LeanClassifier(judges.read(training))
    elif name == "llm":
        task = language_judge.load()
        with annotating_model(settings.model, "judge: scores") as model:
            yield LanguageJudge(model, task, settings.model.max_characters, settings.min_valid)
    else:
        assert_never(name)


def refuse_own_model(settings: Params, measured: Path) -> None:
    """Keep a language model from judging itself and its own adapters, which favours them (Panickssery et al. 2024, arXiv 2404.13076).

    What a server runs behind its name cannot be seen from here.

    :raises InputError: if the judge's file is the ``measured`` one, unless ``judge.judge_own_model`` is set.
    """
    file = settings.model.file
    if "llm" not in settings.judges or settings.judge_own_model or file.suffix == ".yaml" or not file.exists():
        return  # a missing file is refused where it is opened
    if sha256(file) == sha256(measured):
        raise InputError(
            f"judge.model.file: {file} is the very model that is measured, and none judges itself. Name another model, take llm out of judge.judges, "
            "or set judge.judge_own_model: true to have it so all the same."
        )
