"""Any table of texts judged: a score from 0 (very left) to 20 (very right) for each row.

in   --texts FILE.jsonl: one JSON object a line with `text`, and `question` where the text answers one; further fields are kept
out  --out FILE.jsonl (default: FILE.judged.jsonl beside it): the rows with `score`, which is null where `readable` is false

--judge is classifier (default) or llm; --model names the file of llm (default: judge.model.file of params.yaml), a GGUF or a YAML file that describes a
server. A text is not readable if it has under five words or circles, or if the language model gives no score.
"""

import json
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np

from stages.core import command, params
from stages.core.errors import InputError
from stages.core.files import replacing
from stages.core.results import six_digits
from stages.instruments import judging
from stages.instruments.judges import Answer, judged
from stages.instruments.judging import Name, Params

TRAINING = Path("data/sample/lean/training.jsonl")
SHOWN = 5
"Bad rows that an error message names."


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file, each with a string under ``text``; blank lines are passed over.

    :raises InputError: naming the rows and fields that cannot be used.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not readable as text: {error}. Name a JSON Lines file.") from error
    rows, faults = list[dict[str, Any]](), list[str]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            faults.append(f"row {number}: is no JSON: {error}")
            continue
        fault = _fault(row)
        if fault:
            faults.append(f"row {number}: {fault}")
        else:
            rows.append(row)
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise InputError(f"{path}: {'; '.join(faults[:SHOWN])}{more}. Correct these rows or take them out.")
    if not rows:
        raise InputError(f"{path}: holds no row. Give it one JSON object a line, with a field text.")
    return rows


def _fault(row: object) -> str:
    """What is wrong with a row; nothing if it can be judged."""
    if not isinstance(row, dict):
        return "is no JSON object"
    if "text" not in row:
        return f"field text is missing; there are {', '.join(row) or 'no fields'}"
    if not isinstance(row["text"], str):
        return f"field text is {json.dumps(row['text'])[:40]}, no string"
    if not isinstance(row.get("question") or "", str):
        return f"field question is {json.dumps(row['question'])[:40]}, no string"
    return ""


def main(*, texts: Path, out: Path = Path(), judge: str = "classifier", model: str = "") -> None:
    """Judge the rows of a file."""
    if judge not in get_args(Name):
        raise InputError(f"--judge {judge}: there is no such judge. There are {', '.join(get_args(Name))}.")
    settings = params.load("judge", Params)
    if model:
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"file": Path(model)})})
    rows = read(texts)
    target = texts.with_suffix(f".judged{texts.suffix}") if out == Path() else out
    name: Name = "llm" if judge == "llm" else "classifier"
    with judging.opened(name, settings, TRAINING) as opened:
        scores = judged(opened, [Answer(row["text"], row.get("question") or "") for row in rows])
    scored = np.isfinite(scores)
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row, score, known in zip(rows, scores.tolist(), scored.tolist(), strict=True):
            file.write(json.dumps(row | {"score": six_digits(score) if known else None, "readable": known}, ensure_ascii=False) + "\n")
    print(f"{target}: {scored.sum()} of {len(rows)} texts scored by {judge}, {(~scored).sum()} not readable", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
