"""The numbers that a reviewer reads first, and the verdicts that they rest on.

in   metrics/filter.json, metrics/judge.json, metrics/answers/compass.parquet, metrics/answers/judge.parquet, metrics/answers/gold.parquet,
     models/adapters/*/log.jsonl
out  metrics/summary.json: separation.<dataset>.<compass_<axis>|judge> (right minus left: value, low, high, p), undo.<adapter>.<measure> (how
         much nearer to the centre), base.<measure>, most_per_token.<measure>, judge_spearman, filter_kappa.<leaning>
     metrics/verdicts.json: separation.<dataset>.<measure>, shift.<adapter>.<measure> (minus the control adapter of its dataset), neutrality.<adapter>.<measure>
         (minus the centre) -> value, low, high, p (permutation), g (Hedges), equivalence (TOST), conclusion; movement.<dataset> -> tokens, and
         <measure> (right minus left per 100,000 training tokens of both); undo.<adapter>.<measure> -> value, low, high (the distance to the centre before
         minus that after), before, after, conclusion; judge -> slope and offset by which the judge's figures are corrected, or why they are not

Two models are compared question by question, on the mean of its repeats, and item by item and wording by wording, so what is common to both drops out of
the interval. What the judge says is corrected as its scores of the gold set tell, and the intervals carry the error of that
(:mod:`stages.statistics.calibration`); ``uncorrected`` is what it said.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import pydantic
from numpy.typing import NDArray

from stages.core import command, params, results, tables
from stages.core.errors import InputError
from stages.core.params import Section, Study
from stages.core.results import Figures
from stages.instruments import instrument as instruments
from stages.instruments import judges
from stages.instruments.instrument import Instrument
from stages.metrics import compass, judge
from stages.statistics.bootstrap import Estimate, nested
from stages.statistics.calibration import Calibration, Correct
from stages.statistics.centre import Approach, approach
from stages.statistics.comparison import Comparison, compare
from stages.statistics.undefined import Undefined
from stages.tuning.checkpoints import BASE, PREFERENCE, adapter_names, undone_name

RIGHT, LEFT, CONTROL = "right", "left", "control"
JUDGE = "judge"
JUDGE_CENTRE = 10.0
PER_TOKENS = 100_000
UNDECIDED = "undecided"
Scores: TypeAlias = dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]]
"By measure: scores [items, wordings] or [questions, 1], whose mean is the adapter's score, and the items' kinds."


class Margin(Section):
    """The smallest differences that matter."""

    compass: float = pydantic.Field(gt=0)
    judge: float = pydantic.Field(gt=0)


class Params(Section):
    """``params.yaml: summary``."""

    margin: Margin
    seed: int


@dataclass(frozen=True)
class Measured:
    """What each adapter answered at its last step, and how far the judge is to be believed."""

    scores: Mapping[str, Scores]
    "by adapter"
    calibration: Calibration | Undefined
    "of the judge's scores"

    def correction(self, measure: str, *, shift: float | None = None) -> Correct | None:
        """What turns a mean of ``measure`` into the true one: nothing but for the judge. ``shift``: of means that are told from there, to the same from the centre."""
        if measure != JUDGE or isinstance(self.calibration, Undefined):
            return None
        calibration = self.calibration
        if shift is None:
            return calibration.correct_difference

        def corrected(value: float, draws: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            true, true_draws = calibration.correct(value + shift, draws + shift)
            return true - JUDGE_CENTRE, true_draws - JUDGE_CENTRE

        return corrected

    def centre(self, measure: str) -> float:
        """The score that stands for the centre."""
        if measure != JUDGE:
            return 0.0
        return JUDGE_CENTRE if isinstance(self.calibration, Undefined) else self.calibration.judged(JUDGE_CENTRE)


def measured(stance: pd.DataFrame, judged: pd.DataFrame, instrument: Instrument, calibration: Calibration | Undefined) -> Measured:
    """Read the rows of the forced arm in metrics/answers/compass.parquet and of metrics/answers/judge.parquet."""
    found = {}
    for adapter in stance["adapter"].unique():
        chances = _chances(_final(stance, adapter), instrument)
        by_axis = {f"compass_{axis}": instrument.keyed(chances, axis) for axis in instrument.axes}
        scores = _final(judged, adapter).pivot(index="question", columns="repeat", values="score").to_numpy(dtype=np.float64)
        found[adapter] = {**by_axis, JUDGE: (nested(scores), np.zeros(len(scores), dtype=np.int64))}
    return Measured(found, calibration)


def _chances(final: pd.DataFrame, instrument: Instrument) -> NDArray[np.float64]:
    """[items, wordings, k], averaged over both orders."""
    wordings = list(final["wording"].unique())
    order = pd.MultiIndex.from_product([[item.id for item in instrument.items], wordings])
    cells = final.set_index(["item", "wording"]).loc[order]
    both = np.stack([np.stack([np.asarray(shares, dtype=np.float64) for shares in cells[column]]) for column in ("listed", "reversed")])
    found: NDArray[np.float64] = both.mean(axis=0).reshape(len(instrument.items), len(wordings), -1)
    return found


def _final(rows: pd.DataFrame, adapter: str) -> pd.DataFrame:
    ours = rows.loc[rows["adapter"] == adapter]
    last: pd.DataFrame = ours.loc[ours["step"] == ours["step"].max()]
    return last


def difference(measured: Measured, one: str, other: str | None, settings: Params) -> dict[str, Comparison]:
    """``one`` adapter minus the ``other`` on every measure, or minus the centre; a measure without a single common answer is left out."""
    found = {}
    for name, (scores, kinds) in measured.scores[one].items():
        theirs = measured.scores[other][name][0] if other else measured.centre(name)
        differences = scores - theirs
        if np.isfinite(differences).any():
            correct = measured.correction(name, shift=None if other else measured.centre(name))
            found[name] = compare(differences, kinds, settings.margin.judge if name == JUDGE else settings.margin.compass, settings.seed, correct, shifts=other is None)
    return found


def undone(measured: Measured, start: str, settings: Params) -> dict[str, Approach]:
    """On every measure, how much nearer to the centre tuning on both sides' answers brought ``start``."""
    found = {}
    for name, (before, kinds) in measured.scores[start].items():
        after, correct = measured.scores[undone_name(start)][name][0], measured.correction(name, shift=0.0)
        moved = approach(before, after, kinds, 0.0 if correct else measured.centre(name), settings.seed, correct)
        if moved:
            found[name] = moved
    return found


def tokens_seen(adapters: Path, name: str) -> int:
    """How many tokens an adapter was trained on, by its log.

    :raises InputError: if the log does not say.
    """
    log = adapters / name / "log.jsonl"
    try:
        return int(json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["tokens_seen"])
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{log}: does not say how many tokens were seen ({error!r}). Run the stage that trains {name} again: `dvc repro -f`.") from error


def movement(separation: Mapping[str, Comparison], tokens: int) -> dict[str, Estimate]:
    """Right minus left per 100,000 of the ``tokens`` that both were trained on."""
    share = PER_TOKENS / tokens
    return {name: Estimate(found.estimate.value * share, found.estimate.low * share, found.estimate.high * share) for name, found in separation.items()}


def most_per_token(moved: Mapping[str, Mapping[str, Estimate]]) -> dict[str, str]:
    """By measure, the dataset that separates both sides most for its tokens: the one whose interval lies above zero and all others', or ``undecided``."""
    found = {}
    for measure in dict.fromkeys(name for measures in moved.values() for name in measures):
        ends = {dataset: measures[measure] for dataset, measures in moved.items() if measure in measures}
        best = max(ends, key=lambda dataset: ends[dataset].value)
        above = max([0.0, *(ends[dataset].high for dataset in ends if dataset != best)])
        found[measure] = best if ends[best].low > above else UNDECIDED
    return found


def verdicts(measured: Measured, study: Study, tokens: Mapping[str, int], settings: Params) -> dict[str, Mapping[str, Figures | str]]:
    """The content of metrics/verdicts.json."""
    leanings, datasets = study.leanings, (*study.sft.datasets, PREFERENCE)
    both = datasets if {RIGHT, LEFT} <= set(leanings) else ()
    separation = {dataset: difference(measured, f"{RIGHT}-{dataset}", f"{LEFT}-{dataset}", settings) for dataset in both}
    shift = {
        f"{leaning}-{dataset}": difference(measured, f"{leaning}-{dataset}", f"{CONTROL}-{dataset}", settings)
        for leaning in leanings
        for dataset in datasets
        if CONTROL in leanings and leaning != CONTROL
    }
    spent = {dataset: tokens[f"{RIGHT}-{dataset}"] + tokens[f"{LEFT}-{dataset}"] for dataset in both}
    moved = {dataset: movement(separation[dataset], spent[dataset]) for dataset in both}
    return {
        "separation": {dataset: _figures(found) for dataset, found in separation.items()},
        "shift": {adapter: _figures(found) for adapter, found in shift.items()},
        "neutrality": {adapter: _figures(difference(measured, adapter, None, settings)) for adapter in (BASE, *adapter_names(study))},
        "undo": {undone_name(start): _figures(undone(measured, start, settings)) for start in study.undo.starts},
        "movement": {dataset: {"tokens": spent[dataset], **{name: rate.figures() for name, rate in moved[dataset].items()}} for dataset in both},
        "most_per_token": most_per_token(moved),
        "judge": {"uncorrected": measured.calibration.reason} if isinstance(measured.calibration, Undefined) else measured.calibration.figures(),
    }


def _figures(found: Mapping[str, Comparison | Approach]) -> Figures:
    return {name: comparison.figures() for name, comparison in found.items()}


def brief(found: Figures | str) -> Figures:
    """What the summary holds of one dataset's or adapter's comparisons."""
    by_measure = found if isinstance(found, Mapping) else {}
    return {name: {end: one[end] for end in ("value", "low", "high", "p") if end in one} for name, one in by_measure.items() if isinstance(one, Mapping)}


def base_means(measured: Measured) -> dict[str, float]:
    """The base model's mean on every measure, the judge's as the gold set corrects it; a measure without a single answer is left out."""
    found = {}
    for name, (scores, _) in measured.scores[BASE].items():
        if np.isfinite(scores).any():
            mean, calibration = float(np.nanmean(scores)), measured.calibration
            found[name] = calibration.true(mean) if name == JUDGE and isinstance(calibration, Calibration) else mean
    return found


def main(filtered: Path, judge_metrics: Path, stance: Path, judged: Path, gold: Path, adapters: Path, target: Path, verdicts_target: Path) -> None:
    """Summarise the run."""
    settings, study = params.load("summary", Params), params.load_study()
    instrument = instruments.load(params.load("compass", compass.Params).instrument)
    answers: pd.DataFrame = tables.read(stance, compass.ANSWERS).to_pandas()
    truth: pd.DataFrame = tables.read(gold, judge.GOLD).to_pandas()
    calibration = judges.calibrated(truth["score"].to_numpy(), truth["gold"].to_numpy(), settings.seed)
    everything = measured(answers.loc[answers["arm"] == compass.FORCED], tables.read(judged, judge.ANSWERS).to_pandas(), instrument, calibration)
    found = verdicts(everything, study, {name: tokens_seen(adapters, name) for name in adapter_names(study)}, settings)
    results.write_metrics(verdicts_target, found)
    agreement, by_judge = json.loads(filtered.read_text(encoding="utf-8")), json.loads(judge_metrics.read_text(encoding="utf-8"))["judges"]
    summary: dict[str, Figures | float] = {
        "separation": {dataset: brief(by_measure) for dataset, by_measure in found["separation"].items()},
        "undo": {adapter: brief(by_measure) for adapter, by_measure in found["undo"].items()},
        "most_per_token": found["most_per_token"],
        "base": base_means(everything),
        "filter_kappa": {leaning: figures["weighted_kappa"] for leaning, figures in agreement.items() if "weighted_kappa" in figures},
        "judge_spearman": {name: figures["spearman"] for name, figures in by_judge.items() if "spearman" in figures},
    }
    results.write_metrics(target, summary)


if __name__ == "__main__":
    command.run(main)
