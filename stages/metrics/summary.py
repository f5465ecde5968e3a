"""The numbers that a reviewer reads first.

in   metrics/filter.json, metrics/judge.json, metrics/answers/compass.parquet, metrics/answers/judge.parquet
out  metrics/summary.json: separation.<dataset>.<compass_economic|compass_social|judge> (right minus left, with interval), base.<measure>,
     judge_spearman, filter_kappa.<leaning>

The separation pairs the two adapters question by question and wording by wording, so what is common to both drops out of its interval.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from stages import command, params, results, tables
from stages.instruments import questionnaire as instruments
from stages.instruments.questionnaire import Questionnaire
from stages.metrics import compass, judge
from stages.results import Figures
from stages.statistics.bootstrap import Estimate, estimate
from stages.tuning.checkpoints import BASE, PREFERENCE

RIGHT, LEFT = "right", "left"
SEED = 1


def final(answers: pa.Table, adapter: str) -> pd.DataFrame:
    """An adapter's answers at its last step."""
    frame: pd.DataFrame = answers.to_pandas()
    frame = frame.loc[frame["adapter"] == adapter]
    last: pd.DataFrame = frame.loc[frame["step"] == frame["step"].max()]
    return last


def compass_matrix(answers: pa.Table, adapter: str, questionnaire: Questionnaire) -> NDArray[np.float64]:
    """An adapter's final answers, [items, wordings]."""
    grid = final(answers, adapter).pivot(index="item", columns="wording", values="value")
    return grid.loc[[item.id for item in questionnaire.items]].to_numpy(dtype=np.float64)


def judge_matrix(answers: pa.Table, adapter: str) -> NDArray[np.float64]:
    """An adapter's final scores, [questions, repeats]."""
    return final(answers, adapter).pivot(index="question", columns="repeat", values="score").to_numpy(dtype=np.float64)


def separation(stance: pa.Table, judged: pa.Table, dataset: str, questionnaire: Questionnaire) -> dict[str, Estimate]:
    """Right minus left for one dataset: on each axis of the compass and for the judge."""
    right, left = f"{RIGHT}-{dataset}", f"{LEFT}-{dataset}"
    difference = compass_matrix(stance, right, questionnaire) - compass_matrix(stance, left, questionnaire)
    found = {f"compass_{axis}": estimate(*instruments.keyed(difference, questionnaire, axis), SEED) for axis in questionnaire.axes}
    scores = judge_matrix(judged, right) - judge_matrix(judged, left)
    if np.isfinite(scores).any():  # questions that both answered readably
        found["judge"] = judge.mean_score(scores, SEED)
    return found


def main(filtered: Path, judge_metrics: Path, stance: Path, judged: Path, target: Path) -> None:
    """Summarise the run."""
    study = params.load_study()
    questionnaire = instruments.load(Path("prompts/instruments/compass.yaml"))
    answers, scores = tables.read(stance, compass.ANSWERS), tables.read(judged, judge.ANSWERS)
    datasets = (*study.sft.datasets, PREFERENCE) if {RIGHT, LEFT} <= set(study.leanings) else ()
    summary: dict[str, Figures | float] = {
        "separation": {dataset: {name: found.figures() for name, found in separation(answers, scores, dataset, questionnaire).items()} for dataset in datasets}
    }
    base = compass_matrix(answers, BASE, questionnaire)
    stance_of_base = {f"compass_{axis}": float(instruments.keyed(base, questionnaire, axis)[0].mean()) for axis in questionnaire.axes}
    judge_of_base = judge_matrix(scores, BASE)
    summary["base"] = stance_of_base | ({"judge": float(np.nanmean(judge_of_base))} if np.isfinite(judge_of_base).any() else {})
    agreement = json.loads(filtered.read_text(encoding="utf-8"))
    summary["filter_kappa"] = {leaning: figures["weighted_kappa"] for leaning, figures in agreement.items() if "weighted_kappa" in figures}
    summary["judge_spearman"] = json.loads(judge_metrics.read_text(encoding="utf-8"))["judges"]["classifier"]["spearman"]
    results.write_metrics(target, summary)


if __name__ == "__main__":
    command.run(main)
