"""The numbers that a reviewer reads first, and the verdicts that they rest on.

in   metrics/filter.json, metrics/judge.json, metrics/answers/compass.parquet, metrics/answers/judge.parquet, models/adapters/*/log.jsonl
out  metrics/summary.json: separation.<dataset>.<compass_<axis>|judge> (right minus left: value, low, high, p), base.<measure>, most_per_token.<measure>,
         judge_spearman, filter_kappa.<leaning>
     metrics/verdicts.json: separation.<dataset>.<measure>, shift.<adapter>.<measure> (minus the control adapter of its dataset), neutrality.<adapter>.<measure>
         (minus the centre) -> value, low, high, p (permutation), g (Hedges), equivalence (TOST), conclusion; movement.<dataset> -> tokens, and
         <measure> (right minus left per 100,000 training tokens of both)

Two models are compared question by question and wording by wording, so what is common to both drops out of the interval.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pydantic
from numpy.typing import NDArray

from stages import command, params, results, tables
from stages.errors import InputError
from stages.instruments import instrument as instruments
from stages.instruments.instrument import Instrument
from stages.metrics import compass, judge
from stages.params import Section
from stages.results import Figures
from stages.statistics.bootstrap import Estimate
from stages.statistics.comparison import Comparison, compare
from stages.tuning.checkpoints import BASE, PREFERENCE

RIGHT, LEFT, CONTROL = "right", "left", "control"
JUDGE_CENTRE = 10.0
PER_TOKENS = 100_000
UNDECIDED = "undecided"


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
    """What each adapter answered at its last step."""

    stance: pd.DataFrame
    "rows of the forced arm in metrics/answers/compass.parquet"
    judged: pd.DataFrame
    "rows of metrics/answers/judge.parquet"
    instrument: Instrument

    def matrices(self, adapter: str) -> dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """By measure: scores [items, wordings] or [questions, repeats], whose mean is the adapter's score, and the items' kinds."""
        chances = self._chances(adapter)
        found = {f"compass_{axis}": self.instrument.keyed(chances, axis) for axis in self.instrument.axes}
        scores = _final(self.judged, adapter).pivot(index="question", columns="repeat", values="score").to_numpy(dtype=np.float64)
        return {**found, "judge": (scores, np.zeros(len(scores), dtype=np.int64))}

    def _chances(self, adapter: str) -> NDArray[np.float64]:
        """[items, wordings, k], averaged over both orders."""
        final = _final(self.stance, adapter)
        wordings = list(final["wording"].unique())
        order = pd.MultiIndex.from_product([[item.id for item in self.instrument.items], wordings])
        cells = final.set_index(["item", "wording"]).loc[order]
        both = np.stack([np.stack([np.asarray(shares, dtype=np.float64) for shares in cells[column]]) for column in ("listed", "reversed")])
        found: NDArray[np.float64] = both.mean(axis=0).reshape(len(self.instrument.items), len(wordings), -1)
        return found


def _final(rows: pd.DataFrame, adapter: str) -> pd.DataFrame:
    ours = rows.loc[rows["adapter"] == adapter]
    last: pd.DataFrame = ours.loc[ours["step"] == ours["step"].max()]
    return last


def difference(measured: Measured, one: str, other: str | None, settings: Params) -> dict[str, Comparison]:
    """``one`` adapter minus the ``other`` on every measure, or minus the centre; a measure without a single common answer is left out."""
    ours, found = measured.matrices(one), dict[str, Comparison]()
    theirs = measured.matrices(other) if other else None
    for name, (scores, kinds) in ours.items():
        centre = JUDGE_CENTRE if name == "judge" else 0.0
        differences = scores - (theirs[name][0] if theirs else centre)
        if np.isfinite(differences).any():
            found[name] = compare(differences, kinds, settings.margin.judge if name == "judge" else settings.margin.compass, settings.seed)
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


def verdicts(measured: Measured, leanings: Sequence[str], datasets: Sequence[str], tokens: Mapping[str, int], settings: Params) -> dict[str, Mapping[str, Figures | str]]:
    """The content of metrics/verdicts.json."""
    names = [f"{leaning}-{dataset}" for leaning in leanings for dataset in datasets]
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
        "neutrality": {adapter: _figures(difference(measured, adapter, None, settings)) for adapter in (BASE, *names)},
        "movement": {dataset: {"tokens": spent[dataset], **{name: rate.figures() for name, rate in moved[dataset].items()}} for dataset in both},
        "most_per_token": most_per_token(moved),
    }


def _figures(found: Mapping[str, Comparison]) -> Figures:
    return {name: comparison.figures() for name, comparison in found.items()}


def brief(found: Figures | str) -> Figures:
    """What the summary holds of one dataset's comparisons."""
    by_measure = found if isinstance(found, Mapping) else {}
    return {name: {end: one[end] for end in ("value", "low", "high", "p")} for name, one in by_measure.items() if isinstance(one, Mapping)}


def main(filtered: Path, judge_metrics: Path, stance: Path, judged: Path, adapters: Path, target: Path, verdicts_target: Path) -> None:
    """Summarise the run."""
    settings, study = params.load("summary", Params), params.load_study()
    instrument = instruments.load(params.load("compass", compass.Params).instrument)
    answers: pd.DataFrame = tables.read(stance, compass.ANSWERS).to_pandas()
    measured = Measured(answers.loc[answers["arm"] == compass.FORCED], tables.read(judged, judge.ANSWERS).to_pandas(), instrument)
    datasets = (*study.sft.datasets, PREFERENCE)
    tokens = {name: tokens_seen(adapters, name) for name in (f"{leaning}-{dataset}" for leaning in study.leanings for dataset in datasets)}
    found = verdicts(measured, study.leanings, datasets, tokens, settings)
    results.write_metrics(verdicts_target, found)
    agreement, judges = json.loads(filtered.read_text(encoding="utf-8")), json.loads(judge_metrics.read_text(encoding="utf-8"))["judges"]
    base = {name: float(np.nanmean(scores)) for name, (scores, _) in measured.matrices(BASE).items() if np.isfinite(scores).any()}
    summary: dict[str, Figures | float] = {
        "separation": {dataset: brief(by_measure) for dataset, by_measure in found["separation"].items()},
        "most_per_token": found["most_per_token"],
        "base": base,
        "filter_kappa": {leaning: figures["weighted_kappa"] for leaning, figures in agreement.items() if "weighted_kappa" in figures},
        "judge_spearman": {name: figures["spearman"] for name, figures in judges.items() if "spearman" in figures},
    }
    results.write_metrics(target, summary)


if __name__ == "__main__":
    command.run(main)
