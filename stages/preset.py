"""Write a preset into params.yaml: a file of `presets/` with the values of some parameters.

    python -m stages.preset paper     settings of the size of published studies, for a GPU or a server
    python -m stages.preset laptop    the defaults again

Says what it changes; all else in params.yaml stays as it is, comments included. A file of your own in `presets/` is a preset too. If a value does not suit
its parameter, nothing is written, and every mistake is named.
"""

import importlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from stages.core import command, params
from stages.core.errors import InputError
from stages.core.files import replacing
from stages.core.params import Section, Study

FOLDER = Path("presets")
SHARED = {
    "annotator": ("stages.llm.local", "Annotator"),
    "measuring": ("stages.llm.local", "Measuring"),
    "runtime": ("stages.core.runtime", "Runtime"),
    "server": ("stages.llm.endpoint", "Traffic"),
    "tuning": ("stages.tuning.settings", "Tuning"),
}
"Module and schema of the sections that belong to no stage of their name. Imported when needed: some take seconds."

Value = Any
"a scalar, or a list of scalars"


@dataclass(frozen=True)
class Change:
    """One parameter that gets another value."""

    name: str
    "dots descend"
    before: Value
    after: Value

    def __str__(self) -> str:
        return f"{self.name}: {_flow(self.before)} -> {_flow(self.after)}"


def load(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """The values of a preset.

    :raises InputError: if there is none of that name, or it is no mapping.
    """
    file = folder / f"{name}.yaml"
    if not file.exists():
        raise InputError(f"{file}: there is no such preset, only {', '.join(sorted(path.stem for path in folder.glob('*.yaml')))}.")
    values = params.read_yaml(file)
    if not isinstance(values, dict):
        raise InputError(f"{file}: holds no parameters. Write them as in {params.FILE}: section, colon, and the parameters below it.")
    return values


def leaves(values: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Value]]:
    """Every value with the keys that lead to it."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*place, str(key)))
        else:
            yield (*place, str(key)), value


def changes(preset: Mapping[str, Any], current: Mapping[str, Any], place: str) -> list[Change]:
    """What ``preset`` changes in ``current``; ``place`` names it in errors.

    :raises InputError: naming everything that is no parameter or does not suit its section.
    """
    found, mistakes = [], []
    for path, value in leaves(preset):
        at: Any = current
        for key in path:
            at = at[key] if isinstance(at, Mapping) and key in at else NotImplemented
        name = ".".join(path)
        if at is NotImplemented:
            mistakes.append(f"{name}: there is no such parameter in {params.FILE}")
        elif isinstance(at, Mapping) or any(isinstance(item, list | Mapping) for item in (value if isinstance(value, list) else [])):
            mistakes.append(f"{name}: a preset gives single values and lists of them")
        elif at != value or type(at) is not type(value):
            found.append(Change(name, at, value))
    mistakes += unsuitable(_merged(current, preset), [section for section in preset if section in current])
    if mistakes:
        raise InputError(f"{place}: nothing is written, please correct:\n" + "\n".join(f"  {mistake}" for mistake in mistakes))
    return found


def _merged(current: Any, preset: Any) -> Any:
    if isinstance(current, Mapping) and isinstance(preset, Mapping):
        return {key: _merged(value, preset[key]) if key in preset else value for key, value in current.items()}
    return preset


def unsuitable(values: Mapping[str, Any], sections: Iterable[str]) -> Iterator[str]:
    """What in these sections of ``values``, all parameters, their schemas refuse: name and reason of each mistake."""
    for section in sections:
        try:
            if section == "leanings":
                Study.model_validate(values)
            else:
                schema_of(section).model_validate(values[section])
        except pydantic.ValidationError as error:
            start = () if section == "leanings" else (section,)
            yield from (f"{'.'.join(map(str, (*start, *each['loc'])))}: {each['msg']}" for each in error.errors())


def schema_of(section: str) -> type[Section]:
    """The schema of a section: a shared one, or that of the stage of its name."""
    stages = (f"stages.{folder}.{section}" for folder in ("data", "models", "metrics") if (Path(__file__).parent / folder / f"{section}.py").exists())
    module, name = SHARED.get(section) or (next(stages), "Params")
    schema: type[Section] = getattr(importlib.import_module(module), name)
    return schema


def rewritten(text: str, changed: list[Change]) -> str:
    """The text of a parameter file with other values; every other character stays."""
    root, lines = YAML().compose(text), text.splitlines()
    places = sorted(((_find(root, change.name), change.after) for change in changed), key=lambda found: found[0][0].start_mark.line, reverse=True)
    for (key, value), after in places:
        first, colon, end = key.start_mark.line, key.end_mark.column + 1, _end(value)
        comment = lines[first][end.column if end and end.line == first else colon :].strip()
        listed = isinstance(after, list) and bool(after)
        head = lines[first][:colon] + ("" if listed or after is None else f" {_flow(after)}") + (f"  {comment}" if comment else "")
        items = [f"{' ' * key.start_mark.column}- {_flow(item)}" for item in (after if listed else ())]
        lines[first : (end.line if end else first) + 1] = [head, *items]
    return "\n".join(lines) + "\n"


def _find(node: Node, name: str) -> tuple[Node, Node]:
    """The nodes of a parameter's key and value."""
    found: tuple[Node, Node] = (node, node)
    for part in name.split("."):
        assert isinstance(node, MappingNode)
        found = next((key, value) for key, value in node.value if str(key.value) == part)
        node = found[1]
    return found


def _end(node: Node) -> Any:
    """Where the text of a value ends, nothing if it has none; a block list's own end lies behind the comments that follow it."""
    if isinstance(node, SequenceNode) and node.value and not node.flow_style:
        return _end(node.value[-1])
    return node.end_mark if node.end_mark.index > node.start_mark.index else None


def _flow(value: Value) -> str:
    """A value on one line, as YAML."""
    text, yaml = io.StringIO(), YAML()
    yaml.default_flow_style, yaml.width = True, 4096
    yaml.dump({"k": value}, text)
    return text.getvalue().strip()[1:-1].removeprefix("k:").strip()


def main(name: str) -> None:
    """Write the preset and say what it changed."""
    preset, text = load(name), params.FILE.read_text(encoding="utf-8")
    found = changes(preset, params.read_yaml(params.FILE), str(FOLDER / f"{name}.yaml"))
    with replacing(params.FILE) as temporary:
        temporary.write_text(rewritten(text, found), encoding="utf-8")
    print("\n".join(map(str, found)) or f"{params.FILE} has the values of {name} already.")


if __name__ == "__main__":
    command.run(main)
