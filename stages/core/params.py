"""Typed parameters: one section of ``params.yaml`` for each stage."""

from pathlib import Path
from typing import Any, TypeVar

import pydantic
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.core.errors import InputError

FILE = Path("params.yaml")


class Section(pydantic.BaseModel):
    """Base of every section: frozen, and refusing keys that it does not know."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Section)


def load(section: str, schema: type[S], file: Path = FILE) -> S:
    """Read ``section`` (dots descend) of the parameter file into ``schema``.

    :raises InputError: naming every unknown, missing or unsuitable key of the section at once.
    """
    values: Any = read_yaml(file)
    for key in section.split("."):
        if not isinstance(values, dict) or key not in values:
            raise InputError(f"{file}: there is no section '{section}'. Add it, or take it over from the original params.yaml.")
        values = values[key]
    return parse(schema, values, f"{file}: {section}")


class Datasets(pydantic.BaseModel):
    """What ``sft`` trains on, read beside the stage's own section."""

    datasets: tuple[str, ...]


class Starts(pydantic.BaseModel):
    """What ``undo`` tunes towards the centre, read beside the stage's own section."""

    starts: tuple[str, ...]


class Study(pydantic.BaseModel):
    """What the stages that look at all adapters need to know of the whole file; they track just these three keys."""

    leanings: tuple[str, ...]
    sft: Datasets
    undo: Starts = Starts(starts=())


def load_study(file: Path = FILE) -> Study:
    """Read which leanings, datasets and undone adapters there are.

    :raises InputError: if the file does not say, or an adapter is to be undone that these settings do not make.
    """
    try:
        study = Study.model_validate(read_yaml(file))
    except pydantic.ValidationError as error:
        raise InputError(f"{file}: needs the lists `leanings` and `sft.datasets`, and `undo.starts` if it has `undo`: {error}") from error
    made = {"base", *(f"{leaning}-{dataset}" for leaning in study.leanings for dataset in (*study.sft.datasets, "preference"))}
    if unknown := [start for start in study.undo.starts if start not in made]:
        raise InputError(
            f"{file}: undo.starts: `leanings` and `sft.datasets` make no adapter {', '.join(unknown)}, only {', '.join(sorted(made))}. Change undo.starts along with them."
        )
    return study


def parse(schema: type[S], values: object, place: str) -> S:
    """Check ``values`` against ``schema``; ``place`` says in errors where they came from."""
    try:
        return schema.model_validate(values)
    except pydantic.ValidationError as error:
        lines = [f"  {place}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise InputError("these values cannot be used, please correct them:\n" + "\n".join(lines)) from error


def read_yaml(file: Path) -> Any:
    """Parse a YAML 1.2 file (``1e-05`` is a number, ``no`` a string) into plain Python values."""
    try:
        return YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{file}: there is no such file. Stages run from the root of the repository.") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: is not readable as YAML: {error}") from error
