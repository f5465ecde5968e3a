"""Posts that models write on each topic: the base model as itself and steered to either group, and every adapter.

in   models/base/, models/adapters/, prompts/topics/, prompts/speak.yaml
out  data/speech/<model>.parquet, a row a post:
         id, model, steering (none, liberal, conservative), issue, topic
         wording  0.., which request of the prompt file
         repeat   0.., which answer to it
         text     without a lead-in and quotation marks around it; as written if it is not kept
         status   kept, empty, unreadable (under five words, or going in circles), refusal

Steering names a group and nothing else. Adapters are taken at their last checkpoint.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import Template
from typing import Literal

import pydantic

from stages.core import command, params, tables
from stages.core.files import replacing, short_hash
from stages.core.params import Section, parse, read_yaml
from stages.corpora import issues
from stages.corpora.issues import Issue
from stages.data import topics
from stages.llm.interface import LanguageModel, Prompt, Sampling, several
from stages.llm.local import Measuring, measured_model
from stages.llm.prompts import Task
from stages.llm.readable import readable
from stages.llm.writing import REFUSAL
from stages.tuning.checkpoints import BASE, adapter_names, checkpoints, final

PROMPT = Path("prompts/speak.yaml")
Steering = Literal["none", "liberal", "conservative"]
Status = Literal["kept", "empty", "unreadable", "refusal"]


class Params(Section):
    """``params.yaml: speak``."""

    repeats: int = pydantic.Field(ge=1)
    "posts of each model and steering on each topic and wording"
    max_tokens: int = pydantic.Field(ge=1)
    temperature: float = pydantic.Field(ge=0)
    top_p: float = pydantic.Field(gt=0, le=1)
    base: tuple[Steering, ...] = pydantic.Field(min_length=1)
    "steerings of the base model"
    adapters: tuple[Steering, ...]
    "steerings of the adapters; none: they do not speak"
    silent: tuple[str, ...]
    "leanings whose adapters do not speak"
    seed: int


class Speech(Task):
    """The prompt file: a task whose request is worded in several ways."""

    wordings: tuple[str, ...] = pydantic.Field(min_length=1)
    "with $topic and $issue"

    @pydantic.field_validator("wordings")
    @classmethod
    def _name_the_topic(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for wording in value:
            if not Template(wording).is_valid() or set(Template(wording).get_identifiers()) != {"topic", "issue"}:
                raise ValueError(f"'{wording}' must hold $topic and $issue and no other placeholder")
        return value


@dataclass(frozen=True)
class Request:
    """What one post is asked for."""

    steering: Steering
    issue: str
    topic: str
    wording: int


def requests(found: Mapping[str, Issue], steerings: Sequence[Steering], task: Speech) -> list[Request]:
    """Every wording of every topic with every steering."""
    cells = product(steerings, [(issue, topic) for issue, told in found.items() for topic in told.topics], range(len(task.wordings)))
    return [Request(steering, issue, topic, wording) for steering, (issue, topic), wording in cells]


def prompt(request: Request, found: Mapping[str, Issue], task: Speech) -> Prompt:
    """The chat that asks for it."""
    issue = found[request.issue]
    words = Template(task.wordings[request.wording]).substitute(topic=issue.topics[request.topic].name, issue=issue.name)
    return task.render(request.steering, {"request": words})


def read(text: str, task: Speech) -> tuple[str, Status]:
    """The post in a model's answer, and whether it can be measured."""
    if not text.strip():
        return text, "empty"
    post = task.read(text)
    if post is None or not readable(post):
        return text, "unreadable"
    return (text, "refusal") if REFUSAL.search(post) else (post, "kept")


def speak(model: LanguageModel, name: str, asked: Sequence[Request], found: Mapping[str, Issue], task: Speech, settings: Params) -> list[dict[str, object]]:
    """The rows of one model, called ``name``."""
    sampling = Sampling(settings.max_tokens, settings.temperature, settings.top_p, seed=settings.seed)
    prompts = [prompt(request, found, task) for request in asked]
    rows: list[dict[str, object]] = []
    for request, answers in zip(asked, several(model, prompts, sampling, settings.repeats), strict=True):
        for repeat, answer in enumerate(answers):
            text, status = read(answer.text, task)
            row = {"model": name, "steering": request.steering, "issue": request.issue, "topic": request.topic, "wording": request.wording, "repeat": repeat}
            rows.append({"id": short_hash(*row.values()), **row, "text": text, "status": status})
    return rows


def main(base: Path, adapters: Path, folder: Path, target: Path) -> None:
    """Let every model speak."""
    settings, measuring, study = params.load("speak", Params), params.load("measuring", Measuring), params.load_study()
    found = issues.load(folder, params.load("topics", topics.Params).issues)
    task = parse(Speech, read_yaml(PROMPT), str(PROMPT))
    speaking = [name for name in adapter_names(study) if settings.adapters and name.split("-")[0] not in settings.silent]
    points = final(checkpoints(adapters, speaking))
    asked = {point: requests(found, settings.base if point.adapter == BASE else settings.adapters, task) for point in points}
    total = sum(map(len, asked.values())) * settings.repeats
    with replacing(target) as temporary, measured_model(base / "model.gguf", measuring.context, "speak", total) as (engine, model):
        for point, of_model in asked.items():
            engine.attach(point.file)
            rows = speak(model, point.adapter, of_model, found, task, settings)
            counts = Counter(str(row["status"]) for row in rows)
            tables.write(temporary / f"{point.adapter}.parquet", rows, tables.SPEECH, model.provenance(PROMPT) | {"model": engine.fingerprint})
            print(f"speak {point.adapter}: " + ", ".join(f"{n} {status}" for status, n in counts.most_common()), file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
