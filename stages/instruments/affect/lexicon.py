"""Affect told by words: a file of phrases by label, or a word-emotion list such as the NRC lexicon that the user brings.

    .yaml         phrases by label, written as those of topics are: `griev*`, `fed up`
    .json         a list of labels by word, as the package nrclex holds it
    .tsv, .txt    word, label and 0 or 1 in each line, as the NRC lexicon is distributed

Labels that are not asked for (`positive`) are left out. A text with c different words of a label scores c / (c + 1): one word scores 1/2, two score 2/3.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic

from stages.core.errors import InputError
from stages.core.params import read_yaml
from stages.corpora.issues import Phrases, pattern
from stages.instruments.affect.classifier import Floats

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


class _Lexicon(pydantic.RootModel[dict[str, Phrases]]):
    """The YAML form."""


@dataclass(frozen=True)
class PhraseLexicon:
    """Phrases by label."""

    labels: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]

    def scores(self, texts: Sequence[str]) -> Floats:
        """See :class:`stages.instruments.affect.classifier.Classifier`."""
        counts = [[len({match.group().lower() for match in found.finditer(text)}) for found in self.patterns] for text in texts]
        return saturated(counts, len(self.labels))


@dataclass(frozen=True)
class WordLexicon:
    """Labels by word."""

    labels: tuple[str, ...]
    words: Mapping[str, frozenset[str]]

    def scores(self, texts: Sequence[str]) -> Floats:
        """See :class:`stages.instruments.affect.classifier.Classifier`."""
        counts = []
        for text in texts:
            said = [self.words.get(word, frozenset()) for word in {match.group().lower() for match in WORD.finditer(text)}]
            counts.append([sum(label in labels for labels in said) for label in self.labels])
        return saturated(counts, len(self.labels))


def saturated(counts: Sequence[Sequence[int]], labels: int) -> Floats:
    """Scores of counted words [n, k]."""
    table = np.array(counts, dtype=np.float64).reshape(-1, labels)
    return np.asarray(table / (table + 1))


def load(path: Path, labels: tuple[str, ...]) -> PhraseLexicon | WordLexicon:
    """Read the lexicon at ``path``.

    :raises InputError: if it cannot be read, or has no word for one of ``labels``.
    """
    if path.suffix == ".yaml":
        found = _phrases(path)
        _refuse_other_labels(path, labels, set(found))
        return PhraseLexicon(labels, tuple(pattern(found[label]) for label in labels))
    words = _json_words(path) if path.suffix == ".json" else _listed_words(path)
    _refuse_other_labels(path, labels, {label for of_word in words.values() for label in of_word})
    return WordLexicon(labels, words)


def _phrases(path: Path) -> dict[str, tuple[str, ...]]:
    values = read_yaml(path)
    try:
        return _Lexicon.model_validate(values).root
    except pydantic.ValidationError as error:
        raise InputError(f"{path}: is no lexicon, which is a list of phrases by label: {error}. Correct it.") from error


def _json_words(path: Path) -> dict[str, frozenset[str]]:
    try:
        return {word.lower(): frozenset(labels) for word, labels in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: is not readable as lists of labels by word: {error}. Give a lexicon of the form that nrclex has.") from error


def _listed_words(path: Path) -> dict[str, frozenset[str]]:
    words: dict[str, set[str]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not readable: {error}. Set label.classifiers in params.yaml.") from error
    for number, line in enumerate(lines, 1):
        cells = line.strip().split("\t")
        if not line.strip():
            continue
        if len(cells) != 3 or cells[2] not in ("0", "1"):
            raise InputError(f"{path}: row {number}: '{line[:60]}' is not word, label and 0 or 1 with tabs between. Give the word-level file of the lexicon.")
        if cells[2] == "1":
            words.setdefault(cells[0].lower(), set()).add(cells[1])
    return {word: frozenset(labels) for word, labels in words.items()}


def _refuse_other_labels(path: Path, labels: Sequence[str], found: set[str]) -> None:
    if missing := [label for label in labels if label not in found]:
        raise InputError(f"{path}: has no word for {', '.join(missing)}. It has: {', '.join(sorted(found))}. Set `labels` of this classifier in params.yaml to those it has.")
