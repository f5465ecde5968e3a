"""Respondents in words: the persona that a question is put to, in several wordings (``prompts/interview.yaml``)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import pydantic

from stages.core.params import Section, parse, read_yaml
from stages.surveys.codebook import Demographic

ATTRIBUTE = {"sentence", "phrase", "title", "label"}


class Wording(Section):
    """One way to put a respondent into words."""

    id: str
    words: dict[str, str]
    "what stands for $I, $am, $My and $my in a codebook's sentences"
    attribute: str
    "template of one demographic"
    join: str
    "between two demographics"
    text: str
    "template of the whole"

    @pydantic.model_validator(mode="after")
    def _is_complete(self) -> "Wording":
        for field, text, known in (("attribute", self.attribute, ATTRIBUTE), ("text", self.text, {"attributes"})):
            if not Template(text).is_valid() or set(Template(text).get_identifiers()) - known:
                raise ValueError(f"{field}: only ${', $'.join(sorted(known))} can be filled in")
        if set(self.words) != {"I", "am", "My", "my"}:
            raise ValueError("words: must give I, am, My and my")
        return self

    def persona(self, respondent: Mapping[str, Any], stated: Mapping[str, Demographic]) -> str:
        """What is known of a row of ``data/survey/respondents.parquet`` and ``stated``; empty if that is nothing."""
        said = [self._attribute(name, known, respondent) for name, known in stated.items() if respondent[name] is not None]
        return Template(self.text).substitute(attributes=self.join.join(said)) if said else ""

    def _attribute(self, name: str, known: Demographic, respondent: Mapping[str, Any]) -> str:
        label = respondent[name]
        number = respondent.get(f"{name}_number")
        phrase = known.phrases.get(label, label)
        sentence = Template(known.sentence).substitute(self.words, value=phrase, number="" if number is None else f"{number:.0f}")
        return Template(self.attribute).substitute(sentence=sentence[:1].upper() + sentence[1:], phrase=phrase, title=known.title, label=label)


class Wordings(Section):
    """``prompts/interview.yaml``."""

    wordings: tuple[Wording, ...] = pydantic.Field(min_length=1)
    unknown: str

    def personas(self, respondent: Mapping[str, Any], stated: Mapping[str, Demographic], n: int) -> Sequence[tuple[str, str]]:
        """The first ``n`` wordings of a respondent: id and text."""
        return [(wording.id, wording.persona(respondent, stated) or self.unknown) for wording in self.wordings[:n]]


def load(path: Path) -> Wordings:
    """Read and check the wordings.

    :raises InputError: naming everything that is wrong.
    """
    return parse(Wordings, read_yaml(path), str(path))
