"""How a variable's codes and numbers become labels: the parts that codebooks are made of."""

import re
from typing import Annotated, Any

import pydantic

from stages.core.params import Section

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def code(value: object) -> str | None:
    """A cell as the codebook writes it: ``1``, ``1.0`` and ``" 1"`` are all ``"1"``; an empty cell is ``None``."""
    if value is None:
        return None
    text = str(value).strip()
    if not NUMBER.fullmatch(text):
        return text if text and text.lower() != "nan" else None
    number = float(text)
    return str(int(number)) if number.is_integer() else repr(number)


def _codes(values: Any) -> Any:
    return {str(code(key)): label for key, label in values.items()} if isinstance(values, dict) else values


def _one_code(value: Any) -> Any:
    return code(value) if isinstance(value, int | float | str) else value


Code = Annotated[str, pydantic.BeforeValidator(_one_code)]
Labels = Annotated[dict[str, str], pydantic.BeforeValidator(_codes)]


class Coded(Section):
    """Answers that a file holds as codes."""

    options: Labels
    "label of each code, in the order of the scale"
    missing: tuple[Code, ...] = ()
    "codes that are no answer, here alone"
    aliases: dict[str, tuple[str, ...]] = pydantic.Field(default_factory=dict)
    "other names that files give to a label"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in their order, each once."""
        return tuple(dict.fromkeys(self.options.values()))

    @pydantic.model_validator(mode="after")
    def _is_consistent(self) -> "Coded":
        if len(self.labels) < 2:
            raise ValueError("options: there must be two labels at least")
        both = set(self.options) & set(self.missing)
        if both:
            raise ValueError(f"missing: code {', '.join(sorted(both))} is declared as an answer too")
        strangers = set(self.aliases) - set(self.labels)
        if strangers:
            raise ValueError(f"aliases: {', '.join(sorted(strangers))} is none of the labels")
        return self


class Scale(Coded):
    """Options that several items share."""

    ordinal: bool = True
    "their order means more and less"


class Banded(Section):
    """Numbers that become bands."""

    bands: dict[str, float]
    "label -> its lowest number, ascending; a band ends where the next begins"
    top: float
    "the highest number that can be right"
    missing: tuple[Code, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in their order."""
        return tuple(self.bands)

    def band(self, number: float) -> str | None:
        """The label of ``number``, none if it is beyond both ends."""
        if not next(iter(self.bands.values())) <= number <= self.top:
            return None
        return [label for label, low in self.bands.items() if low <= number][-1]

    @pydantic.model_validator(mode="after")
    def _ascends(self) -> "Banded":
        ends = [*self.bands.values(), self.top]
        if len(ends) < 3 or ends != sorted(set(ends)):
            raise ValueError("bands: there must be two at least, in ascending order and below top")
        return self
