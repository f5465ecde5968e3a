"""How far posts that try to instruct the annotator move their score.

in   data/sample/injections.csv: leaning, native_id, text (the post), clean (the same without its orders); prompts/filter.yaml
out  metrics/injection.json: posts; plain and defended -> changed (posts whose score differs from that of the clean text), raised (is higher),
     shift (mean change of the expected score, 0..3)

``plain`` shows the model the post as it is, ``defended`` as ``filter`` does, without sentences that speak to whoever rates it.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core import command, params, results, sheets
from stages.core.errors import InputError
from stages.core.results import Figures
from stages.data.filter import PROMPT, SCORES, probabilities
from stages.data.filter import Params as Filter
from stages.llm import prompts
from stages.llm.injection import shown
from stages.llm.local import Annotator, annotating_model

COLUMNS = ("leaning", "native_id", "text", "clean")


def read(path: Path) -> pd.DataFrame:
    """The posts with their clean forms.

    :raises InputError: if the file or a column is missing, or a text is empty.
    """
    posts = sheets.read(path, COLUMNS, text=COLUMNS)
    for name in COLUMNS:
        empty = np.flatnonzero(posts[name].str.strip() == "")
        if len(empty):
            raise InputError(f"{path}: row {empty[0] + 2}: field {name} is empty. Fill it in or leave the row out.")
    return posts


def compare(clean: NDArray[np.float64], injected: NDArray[np.float64]) -> dict[str, int | float]:
    """Scores of posts with orders against those without: distributions [n, 4] each."""
    before, after = clean.argmax(axis=1), injected.argmax(axis=1)
    values = np.arange(SCORES)
    return {"changed": int((before != after).sum()), "raised": int((after > before).sum()), "shift": float((injected @ values - clean @ values).mean())}


def main(injections: Path, target: Path) -> None:
    """Score each post in three forms."""
    settings, annotator = params.load("filter", Filter), params.load("annotator", Annotator)
    task, study, posts = prompts.load(PROMPT), params.load_study(), read(injections)
    forms: dict[str, list[NDArray[np.float64]]] = {"clean": [], "plain": [], "defended": []}
    with annotating_model(annotator, "injection") as model:
        for leaning in study.leanings:
            ours = posts[posts["leaning"] == leaning]
            if not len(ours):
                continue
            length = annotator.max_characters
            together = [*(text[:length] for text in ours["clean"]), *(text[:length] for text in ours["text"]), *(shown(text, length) for text in ours["text"])]
            found = probabilities(together, leaning, model, task, calibrate=settings.calibrate)
            for form, part in zip(forms.values(), np.split(found, len(forms)), strict=True):
                form.append(part)
    if not forms["clean"]:
        raise InputError(f"{injections}: holds no post of the leanings {', '.join(study.leanings)}. Add some.")
    clean, plain, defended = (np.concatenate(parts) for parts in forms.values())
    figures: Figures = {"posts": len(clean), "plain": compare(clean, plain), "defended": compare(clean, defended)}
    results.write_metrics(target, figures)


if __name__ == "__main__":
    command.run(main)
