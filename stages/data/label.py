"""The affect of every post, written by people or models, told by one classifier.

in   data/discourse/posts.parquet, data/speech/, what the classifier is made of: a lexicon, a folder, or a prompt file
out  data/labels/<classifier>.parquet, a row for each kept post: id, labels (the names), scores (0 to 1, one a label)
"""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from stages.core import command, params, tables
from stages.core.errors import InputError
from stages.core.params import Section
from stages.core.runtime import Runtime
from stages.instruments.affect import lexicon
from stages.instruments.affect.asked import Asked
from stages.instruments.affect.classifier import LABELS, Classifier, Measure
from stages.llm import prompts
from stages.llm.local import Annotator, annotating_model


class Lexicon(Section):
    """A classifier that counts words."""

    kind: Literal["lexicon"]
    measure: Measure
    path: Path
    labels: tuple[str, ...] = ()
    "those that it tells, if not all of the measure"


class Folder(Section):
    """A sequence classifier, or one for each label."""

    kind: Literal["checkpoint"]
    measure: Measure
    path: Path
    labels: tuple[str, ...] = ()
    names: dict[str, str] = pydantic.Field(default_factory=dict)
    "the model's name of a label, where it differs, in lower case"
    positive: str | None = None
    "the class of a binary model that means the label; without it the second"


class Model(Section):
    """The annotator, asked yes or no for each label."""

    kind: Literal["model"]
    measure: Measure
    path: Path
    "the prompt file"
    labels: tuple[str, ...] = ()


Setting = Annotated[Lexicon | Folder | Model, pydantic.Field(discriminator="kind")]


class Params(Section):
    """``params.yaml: label``."""

    classifiers: dict[str, Setting] = pydantic.Field(min_length=1)

    def labels_of(self, name: str) -> tuple[str, ...]:
        """The labels that the classifier tells."""
        chosen = self.classifiers[name]
        return chosen.labels or LABELS[chosen.measure]


def texts(posts: Path, speech: Path) -> dict[str, str]:
    """Every kept text by its id.

    :raises InputError: if a table cannot be read, or there is no speech.
    """
    files = sorted(speech.glob("*.parquet"))
    if not files:
        raise InputError(f"{speech}: holds no table. `dvc repro speak` makes them.")
    read = [(file, tables.read(file, tables.SPEECH)) for file in files] + [(posts, tables.read(posts, tables.DISCOURSE))]
    columns = [(table.column("id").to_pylist(), table.column("text").to_pylist(), table.column("status").to_pylist()) for _, table in read]
    return {name: text for of_table in columns for name, text, status in zip(*of_table, strict=True) if status == "kept"}


def main(name: str, path: Path, posts: Path, speech: Path, target: Path) -> None:
    """Label all texts with one classifier; ``path`` is what it is made of."""
    settings = params.load("label", Params)
    chosen, labels = settings.classifiers[name], settings.labels_of(name)
    given = texts(posts, speech)
    annotator = params.load("annotator", Annotator)
    with annotating_model(annotator, f"label {name}") if chosen.kind == "model" else nullcontext() as model:
        classifier: Classifier
        if chosen.kind == "lexicon":
            classifier = lexicon.load(path, labels)
        elif chosen.kind == "checkpoint":
            from stages.instruments.affect.checkpoint import Checkpoint  # noqa: PLC0415  # torch takes seconds to import

            classifier = Checkpoint(path, labels, chosen.names, chosen.positive, params.load("runtime", Runtime).device)
        else:
            assert model is not None
            classifier = Asked(labels, model, prompts.load(path), annotator.max_characters)
        scores = classifier.scores(list(given.values()))
        origin = model.provenance(path) if model else None
    rows = [{"id": key, "labels": labels, "scores": row} for key, row in zip(given, scores.tolist(), strict=True)]
    tables.write(target, rows, tables.AFFECT, origin)
    print(f"label {name}: {len(rows)} posts, {(scores.max(axis=1) >= 0.5).sum()} with a label", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
