"""Whose emotions and moral sentiments the models' posts reflect.

in   data/discourse/posts.parquet, data/speech/, data/labels/, the gold file that params.yaml names
out  metrics/affect.json:
         <model>.<steering>.<emotion|moral>, averaged over topics:
             liberal, conservative  alignment with the group, 1 - JS distance; raw: uncorrected, at one n for all, to be held against the floor
             tendency     bits by which the model is nearer to liberals than to conservatives
             entropy_gap  bits by which its labels are more evenly spread than people's; below 0: surer than they are
             gain         bits by which steering brought it nearer to the group that it is steered to
             topics       how many of them had enough posts
         <model>.<steering>.posts  how many posts have each status
         baseline     alignment of the two groups with each other
         floor        raw alignment of halves of one group at that n: what a model that speaks exactly like the group scores
         quality      each classifier against gold
         sensitivity  with another classifier or weighing: mean change of alignment, and share of models whose tendency keeps its side
     metrics/plots/affect.csv: alignment by topic, model and steering; note is "too few" where there are not enough posts
     metrics/plots/affect_profiles.csv: the share of each label by issue, for people and models
     metrics/plots/affect_sensitivity.csv: averages with each classifier, each weighing and each n
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pydantic

from stages.core import command, params, results, tables
from stages.core.errors import InputError
from stages.core.files import short_hash
from stages.core.params import Section
from stages.core.results import Figures
from stages.data import label
from stages.instruments.affect import alignments, samples
from stages.instruments.affect.alignments import OfTopic, Samples
from stages.instruments.affect.classifier import Floats, Measure, Weighing, weights
from stages.instruments.affect.quality import against_gold, read_gold
from stages.instruments.affect.samples import GROUPS, Post, Topic, Who
from stages.statistics.bootstrap import interval
from stages.statistics.divergence import floor, raw_at

MEASURES: tuple[Measure, ...] = ("emotion", "moral")
WEIGHINGS: tuple[Weighing, ...] = ("labels", "posts", "scores")
HEAT_MAP = ("measure", "issue", "topic", "model", "steering", "group", "alignment", "low", "high", "raw", "floor", "n", "posts", "group_posts", "note")
PROFILES = ("measure", "issue", "model", "steering", "label", "share", "low", "high", "n")
SENSITIVITY = ("measure", "varied", "setting", "model", "steering", "liberal", "conservative", "tendency")
ROUGH = 200
"Draws where only the value is wanted."
Row = Sequence[object]


class Params(Section):
    """``params.yaml: affect``."""

    emotion: str
    "the classifier that the figures rest on"
    moral: str
    threshold: float = pydantic.Field(gt=0, le=1)
    weighing: Weighing
    min_posts: int = pydantic.Field(ge=2)
    "labelled posts of anybody on a topic for a figure"
    sizes: tuple[int, ...]
    gold: Path | None
    seed: int

    def classifier(self, measure: Measure) -> str:
        """The one that the figures of ``measure`` rest on."""
        return self.emotion if measure == "emotion" else self.moral


@dataclass(frozen=True)
class Labelled:
    """What one classifier says of all posts."""

    labels: tuple[str, ...]
    scores: Mapping[str, Floats]
    "[k] by id of a post"

    def weights(self, threshold: float, weighing: Weighing) -> dict[str, Floats]:
        """[k] by id."""
        table = weights(np.array(list(self.scores.values())).reshape(-1, len(self.labels)), threshold, weighing)
        return dict(zip(self.scores, table, strict=True))


@dataclass(frozen=True)
class Corpus:
    """The posts of people and models."""

    people: Sequence[Mapping[str, object]]
    "rows of data/discourse/posts"
    speech: Sequence[Mapping[str, object]]
    "rows of data/speech"

    def labelled(self, by_id: Mapping[str, Floats]) -> list[Post]:
        """All posts that count, with their weights."""
        return samples.people(self.people, by_id) + samples.models(self.speech, by_id)

    @property
    def models(self) -> list[Who]:
        """Every model and steering."""
        return list(dict.fromkeys((str(row["model"]), str(row["steering"])) for row in self.speech))

    @property
    def topics(self) -> list[Topic]:
        """Every topic that models were asked about."""
        return list(dict.fromkeys((str(row["issue"]), str(row["topic"])) for row in self.speech))


def read_labels(folder: Path, name: str, labels: tuple[str, ...]) -> Labelled:
    """What the classifier ``name`` says.

    :raises InputError: if its table is missing or has other labels than declared.
    """
    table = tables.read(folder / f"{name}.parquet", tables.AFFECT)
    found = tuple(table.column("labels")[0].as_py()) if len(table) else labels
    if found != labels:
        raise InputError(f"{folder / name}.parquet: has labels {', '.join(found)}, but params.yaml declares {', '.join(labels)}. Run `dvc repro label`.")
    scores = np.array(table.column("scores").to_pylist(), dtype=np.float64).reshape(-1, len(labels))
    return Labelled(labels, dict(zip(table.column("id").to_pylist(), scores, strict=True)))


def topic_rows(measure: Measure, corpus: Corpus, found: Samples, figures: Mapping[Topic, OfTopic]) -> Iterator[Row]:
    """The rows of the heat map: every topic, model, steering and group, and the groups with each other."""
    for topic in corpus.topics:
        told = figures.get(topic)
        people = {group: found.get((group, ""), {}).get(topic) for group in GROUPS}
        for who in corpus.models:
            model, of_model = found.get(who, {}).get(topic), told.models.get(who) if told else None
            for group in GROUPS:
                counts = [sample.n if sample else 0 for sample in (model, people[group])]
                cells: list[object] = [""] * 6
                if told and of_model:
                    estimate = of_model.alignments[group].estimate
                    cells = [estimate.value, estimate.low, estimate.high, of_model.raw[group].estimate.value, told.floors[group].estimate.value, told.n]
                yield [measure, *topic, *who, group, *cells, *counts, "" if of_model else "too few"]
        cells = [""] * 6
        if told:
            lowest = float(np.mean([told.floors[group].estimate.value for group in GROUPS]))
            cells = [told.baseline.estimate.value, told.baseline.estimate.low, told.baseline.estimate.high, told.raw_baseline.estimate.value, lowest, told.n]
        counts = [sample.n if sample else 0 for sample in people.values()]
        yield [measure, *topic, "liberal", "", "conservative", *cells, *counts, "" if told else "too few"]


def profile_rows(measure: Measure, labels: Sequence[str], posts: Sequence[Post], least: int, seed: int) -> Iterator[Row]:
    """The share of each label by issue."""
    for who, of_who in samples.by_issue(posts).items():
        for issue, sample in of_who.items():
            if sample.n >= least:
                draws = sample.draws(np.random.default_rng(seed))
                for k, name in enumerate(labels):
                    share = interval(float(sample.distribution[k]), draws[:, k])
                    yield [measure, issue, *who, name, share.value, share.low, share.high, sample.n]


def size_rows(measure: Measure, found: Samples, sizes: Sequence[int], seed: int) -> Iterator[Row]:
    """Mean raw alignment and floor over the topics that have n posts (for a floor 2 n), for each n."""
    people = {group: found.get((group, ""), {}) for group in GROUPS}
    for n in sizes:
        for who, of_who in found.items():
            floors = who[0] in GROUPS
            cells: list[object] = []
            for group in GROUPS:
                pairs = [(of_who[topic], sample) for topic, sample in people[group].items() if topic in of_who]
                raw = [raw_at(model, sample, n, seed)[0] for model, sample in pairs if min(model.n, sample.n) >= n and not floors]
                raw += [floor(sample, n, seed)[0] for _, sample in pairs if floors and who[0] == group and sample.n >= 2 * n]
                mean = alignments.mean(raw, seed)
                cells.append(mean.value if mean else "")
            yield [measure, "n", n, who[0], "floor" if floors else who[1], *cells, ""]


def variant_rows(measure: Measure, varied: str, setting: str, averages: Mapping[Who, Figures]) -> Iterator[Row]:
    """The averages with one classifier or weighing."""
    for who, figures in averages.items():
        yield [measure, varied, setting, *who, *(value_of(figures, name) if name in figures else "" for name in (*GROUPS, "tendency"))]


def value_of(figures: Figures, name: str) -> float:
    """The value of an average."""
    found = figures[name]
    assert isinstance(found, Mapping)
    return float(str(found["value"]))


def change(main: Mapping[Who, Figures], other: Mapping[Who, Figures]) -> Figures:
    """What another classifier or weighing changes."""
    both = [who for who in main if "tendency" in main[who] and "tendency" in other.get(who, {})]
    if not both:
        return {"models": 0}
    moved = [abs(value_of(main[who], group) - value_of(other[who], group)) for who in both for group in GROUPS]
    kept = [(value_of(main[who], "tendency") > 0) == (value_of(other[who], "tendency") > 0) for who in both]
    return {"models": len(both), "mean_change": float(np.mean(moved)), "same_tendency": float(np.mean(kept))}


@dataclass(frozen=True)
class OfMeasure:
    """Everything about emotions, or about morals."""

    averages: Mapping[Who, Figures]
    baseline: Figures
    floors: Figures
    sensitivity: Figures
    heat_map: list[Row]
    profiles: list[Row]
    variants: list[Row]


def measured(measure: Measure, corpus: Corpus, labelled: Mapping[str, Labelled], settings: Params) -> OfMeasure:
    """Figures with the main classifier, and how they change; ``labelled`` holds the classifiers of this measure by name."""
    main = settings.classifier(measure)
    posts = corpus.labelled(labelled[main].weights(settings.threshold, settings.weighing))
    found = samples.by_topic(posts)
    figures = alignments.of_topics(found, settings.min_posts, settings.seed)
    averages = {who: alignments.of_model(figures, who, settings.seed) for who in corpus.models}
    variants = [*variant_rows(measure, "classifier", main, averages), *size_rows(measure, found, settings.sizes, settings.seed)]
    sensitivity: dict[str, Figures] = {}
    others: list[tuple[str, str, Labelled, Weighing]] = [("classifier", name, told, settings.weighing) for name, told in labelled.items() if name != main]
    others += [("weighing", weighing, labelled[main], weighing) for weighing in WEIGHINGS if weighing != settings.weighing]
    for varied, name, told, weighing in others:
        again = samples.by_topic(corpus.labelled(told.weights(settings.threshold, weighing)))
        topics = alignments.of_topics(again, settings.min_posts, settings.seed, ROUGH)
        other = {who: alignments.of_model(topics, who, settings.seed) for who in corpus.models}
        sensitivity[f"{varied}_{name}"] = change(averages, other)
        variants += variant_rows(measure, varied, name, other)
    baseline, floors = alignments.of_people(figures, settings.seed)
    profiles = list(profile_rows(measure, labelled[main].labels, posts, settings.min_posts, settings.seed))
    return OfMeasure(averages, baseline, floors, sensitivity, list(topic_rows(measure, corpus, found, figures)), profiles, variants)


def qualities(corpus: Corpus, labelled: Mapping[Measure, Mapping[str, Labelled]], settings: Params) -> Figures:
    """Each classifier against gold, on kept posts."""
    if settings.gold is None:
        return {}
    native = read_gold(settings.gold)
    sources = {str(row["source"]) for row in corpus.people}
    gold = {short_hash(source, key): told for source in sources for key, told in native.items()}
    found: dict[str, Figures] = {}
    for measure, classifiers in labelled.items():
        for name, told in classifiers.items():
            has = {post: scores >= settings.threshold for post, scores in told.scores.items()}
            found[name] = against_gold({post: of_post[measure] for post, of_post in gold.items()}, has, told.labels, settings.seed)
    return found


def read_speech(folder: Path) -> list[Mapping[str, object]]:
    """All posts of models.

    :raises InputError: if there are none.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise InputError(f"{folder}: holds no table. `dvc repro speak` makes them.")
    return list(pa.concat_tables([tables.read(file, tables.SPEECH) for file in files]).to_pylist())


def json_of(corpus: Corpus, found: Mapping[Measure, OfMeasure], quality: Figures) -> Figures:
    """The metric file."""
    counts = {who: Counter(str(row["status"]) for row in corpus.speech if (row["model"], row["steering"]) == who) for who in corpus.models}
    figures: dict[str, dict[str, Figures]] = {model: {} for model, _ in corpus.models}
    for who in corpus.models:
        figures[who[0]][who[1]] = {"posts": dict(counts[who])} | {measure: told.averages[who] for measure, told in found.items()}
    figures["baseline"] = {measure: told.baseline for measure, told in found.items()}
    figures["floor"] = {measure: told.floors for measure, told in found.items()}
    figures["sensitivity"] = {measure: told.sensitivity for measure, told in found.items()}
    return figures | ({"quality": quality} if quality else {})


def main(posts: Path, speech: Path, folder: Path, target: Path, heat_map: Path, profiles: Path, sensitivity: Path) -> None:
    """Compare what models write with what both groups write."""
    settings, classifiers = params.load("affect", Params), params.load("label", label.Params)
    for measure in MEASURES:
        name = settings.classifier(measure)
        if name not in classifiers.classifiers or classifiers.classifiers[name].measure != measure:
            known = [key for key, chosen in classifiers.classifiers.items() if chosen.measure == measure]
            raise InputError(f"params.yaml: affect.{measure}: '{name}' is no {measure} classifier of label.classifiers ({', '.join(known) or 'there is none'}).")
    corpus = Corpus(tables.read(posts, tables.DISCOURSE).to_pylist(), read_speech(speech))
    labelled: dict[Measure, dict[str, Labelled]] = {
        measure: {name: read_labels(folder, name, classifiers.labels_of(name)) for name, chosen in classifiers.classifiers.items() if chosen.measure == measure}
        for measure in MEASURES
    }
    found = {measure: measured(measure, corpus, labelled[measure], settings) for measure in MEASURES}
    results.write_metrics(target, json_of(corpus, found, qualities(corpus, labelled, settings)))
    results.write_plot(heat_map, HEAT_MAP, [row for told in found.values() for row in told.heat_map])
    results.write_plot(profiles, PROFILES, [row for told in found.values() for row in told.profiles])
    results.write_plot(sensitivity, SENSITIVITY, [row for told in found.values() for row in told.variants])
    for measure, told in found.items():
        print(f"affect {measure}: {sum(row[-1] == 'too few' for row in told.heat_map)} of {len(told.heat_map)} cells have too few posts", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
