"""What a branch changes, as Markdown: parameters, prompts, figures before and after, and which stages that takes.

BEFORE is a commit or branch, such as origin/main; what counts is the commit at which the current branch left it. AFTER is a commit, or `workspace` for the files
as they are now. FOLDER takes report.md, beside pictures that `python -m stages.reporting.pictures` put there. Everything is read from git: no DVC
remote and no data are needed.
"""

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.core import command
from stages.core.files import replacing
from stages.preset import leaves
from stages.reporting import headline, measures
from stages.reporting.measures import Measure, Verdict
from stages.reporting.revisions import Revision, difference, parting

MARK = "<!-- plumbline: what this branch changes -->"
FIRST = "metrics/summary.json"
MOST_LINES = 400  # of a prompt's changes or of one table: a comment on GitHub holds 65,536 characters
NOTE = """*within*: one of the two values lies in the interval of the other; *beyond*: neither does. The intervals hold 95 %, and dozens of figures are looked at: a few
beyond are expected where nothing has changed."""
SIGNS: Mapping[Verdict, str] = {"beyond": "**beyond**", "within": "within", "no interval": "–", "new": "new", "gone": "gone"}

AWAY = {"deleted", "not in cache"}
"What DVC calls an output that is not here: the cache has it, or the cache lacks it too, as in a fresh clone."


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|---" * len(cells[0]) + "|", *lines[1:]])


def parameters(before: str, after: str) -> str:
    """The parameters that differ between two texts of ``params.yaml``."""
    read = (leaves(YAML(typ="safe", pure=True).load(text) or {}) for text in (before, after))
    old, new = ({".".join(path): json.dumps(value, ensure_ascii=False, default=str) for path, value in found} for found in read)
    changed = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    rows = [[f"`{name}`", *(f"`{found[name]}`" if name in found else "" for found in (old, new))] for name in changed]
    return table(("parameter", "before", "after"), rows) if rows else "No parameter changes."


def prompts(changes: str) -> str:
    """The changes of the prompts as a block of text that no backtick in a prompt can end."""
    if not changes.strip():
        return "No prompt changes."
    lines = changes.splitlines()
    shown = [*lines[:MOST_LINES], f"… {len(lines) - MOST_LINES} more lines"] if len(lines) > MOST_LINES else lines
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", changes)), 0)
    return "\n".join([f"{fence}diff", *shown, fence])


def figures(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The figures that differ between two sets of metric files (texts by path): the summary first, then by file and key."""
    parts, counts, same = [], dict.fromkeys(SIGNS, 0), 0
    for path in sorted({*before, *after}, key=lambda path: (path != FIRST, path)):
        old, new = measures.read(before.get(path, "")), measures.read(after.get(path, ""))
        judged = {name: measures.verdict(old.get(name), new.get(name)) for name in sorted({*old, *new})}
        changed = {name: found for name, found in judged.items() if found != "same"}
        same += len(judged) - len(changed)
        for found in changed.values():
            counts[found] += 1
        if changed:
            rows = [_row(name, old.get(name), new.get(name), found) for name, found in list(changed.items())[:MOST_LINES]]
            text = table(("figure", "before", "after", "change", "interval"), rows)
            title = f"{path.removeprefix('metrics/')}: {len(changed)} of {len(judged)} changed"
            parts.append(f"**{title}**\n\n{text}" if path == FIRST else f"<details><summary>{title}</summary>\n\n{text}\n\n</details>")
    if not parts:
        return f"No figure changes ({same} are the same)."
    said = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    return "\n\n".join([f"{sum(counts.values())} figures change: {said}; {same} are the same.", *parts, NOTE])


def _row(name: tuple[str, ...], before: Measure | None, after: Measure | None, found: Verdict) -> list[str]:
    change = f"{after.value - before.value:+.3g}" if before and after else ""
    return [" · ".join(name), str(before or ""), str(after or ""), change, SIGNS[found]]


def locked(text: str) -> dict[str, dict[str, Any]]:
    """The stages of a ``dvc.lock``."""
    return (YAML(typ="safe", pure=True).load(text) or {}).get("stages", {}) if text.strip() else {}


def rerun(before: str, after: str) -> list[str]:
    """The stages whose inputs differ between two texts of ``dvc.lock``, in the order of the later one."""
    old, new = locked(before), locked(after)
    return [name for name, stage in new.items() if any(stage.get(part) != old.get(name, {}).get(part) for part in ("cmd", "deps", "params"))]


def pending(status: Mapping[str, Any], lock: str) -> list[str]:
    """The stages that ``dvc repro`` would run by the word of ``dvc status --json``, and those that depend on them; what is merely not on this machine does not count."""
    away = [path for notes in status.values() for note in notes if isinstance(note, Mapping) for path, state in note.get("changed outs", {}).items() if state in AWAY]
    found = {name for name, notes in status.items() if any(_asks(note, away) for note in notes)}
    stages = locked(lock)
    while True:
        outs = {entry["path"] for name in found for entry in stages.get(name, {}).get("outs", ())}
        more = {name for name, stage in stages.items() if any(_overlap(entry["path"], out) for entry in stage.get("deps", ()) for out in outs)} - found
        if not more:
            return [name for name in dict.fromkeys([*stages, *status]) if name in found]
        found |= more


def _asks(note: object, away: list[str]) -> bool:
    """Whether a stage must run; a folder of results that are ``away`` looks modified, since git keeps its .gitignore."""
    if not isinstance(note, Mapping):
        return note == "changed command"
    changed = note.get("changed deps", {})
    return any(state != "deleted" and not any(_overlap(path, out) for out in away) for path, state in changed.items())


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def grouped(stages: Iterable[str]) -> str:
    """Stages by name with their items: filter (left, right)."""
    groups: dict[str, list[str]] = {}
    for name in stages:
        kind, _, item = name.partition("@")
        groups.setdefault(kind, []).extend([item] if item else [])
    return ", ".join(f"`{kind}`" + (f" ({', '.join(items)})" if items else "") for kind, items in groups.items()) or "none"


def report(before: Revision, after: Revision, title: str, pictures: Iterable[str], waiting: list[str] | None) -> str:
    """The whole report; ``waiting`` are the stages still to run, if that is known."""
    files = [{path: revision.read(path) for path in revision.files("metrics", ".json") if Path(path).name != headline.FILE} for revision in (before, after)]
    ran = rerun(before.read("dvc.lock"), after.read("dvc.lock"))
    stages = f"Run again on this branch: {grouped(ran)}."
    if waiting is not None:
        stages += f"\n\nStill to run (`dvc repro`): {grouped(waiting)}." + (" **The figures above are not those of these files yet.**" if waiting else "")
    drawn = "\n\n".join(f"![{Path(picture).stem}]({picture})" for picture in pictures)
    parts = [
        MARK,
        f"## {title}",
        "### Parameters",
        parameters(before.read("params.yaml"), after.read("params.yaml")),
        "### Prompts",
        prompts(difference(before, after, "prompts")),
        "### Figures",
        figures(*files),
        "### Stages",
        stages,
        *(["### Pictures", drawn] if drawn else []),
    ]
    return "\n\n".join(parts) + "\n"


def main(before: str, after: str, folder: Path, *, pictures: str = "") -> None:
    """Write the report; ``pictures`` is put before the names of the pictures, such as the address of a branch that holds them."""
    old, new = Revision(parting(before)), Revision(None if after == "workspace" else after)
    waiting = None
    if new.name is None:
        status = subprocess.run(["dvc", "status", "--json"], capture_output=True, text=True, check=True).stdout
        waiting = pending(json.loads(status), new.read("dvc.lock"))
    drawn = [f"{pictures}{file.name}" for file in sorted(folder.glob("*.svg"))]
    text = report(old, new, f"What changes: {old.name[:9] if old.name else ''} → {after[:9]}", drawn, waiting)
    with replacing(folder / "report.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    command.run(main)
