"""The parts of the report, each from what a run left; a part without data is left out."""

from collections.abc import Iterator, Mapping, Sequence

from stages.reporting import charts, measures
from stages.reporting.charts import Series
from stages.reporting.found import Found, Line, confusion, measure_names, measured
from stages.reporting.measures import Measure
from stages.reporting.page import Section, figure, legend, panels, paragraph, table

LOOKS = {"left": 0, "right": 1, "control": 2}
INSTRUMENTS = {"compass_economic": "compass, economic (−10 to 10)", "compass_social": "compass, social (−10 to 10)", "judge": "judge (0 to 20)"}
CHOSEN = {"training": ("loss", "held_out_loss", "held_out_accuracy")}
"Measures that are drawn of a table with more; the others are among its numbers."
ANSWERING = {"base": 2, "forest": 1, "tuned": 3, "real": 0}
"Whose answers to a survey are drawn, with their looks, the last one on top."
ABOUT = {
    "training": "What each adapter was trained towards, on the samples of each step and on those kept from training. Losses of different datasets are different"
    " quantities: compare within a panel only."
}

FAILED = {
    "valid": "hardly gives any of the options",
    "acquiescence": "answers a statement and its opposite alike",
    "order_effect": "follows the order of the options",
}
"What a model does that is not placed on the compass, by the measure that tells."


def parts(adapter: str) -> tuple[str, str]:
    """Leaning and dataset of an adapter: ``left-posts``."""
    leaning, _, dataset = adapter.partition("-")
    return leaning, dataset


def looks(adapters: Sequence[str]) -> dict[str, int]:
    """Colour and marker of each leaning."""
    others = [name for name in dict.fromkeys(parts(adapter)[0] for adapter in adapters) if name not in LOOKS]
    return LOOKS | {name: 3 + i % 3 for i, name in enumerate(others)}


def headline(found: Found) -> str:
    """What came out, in one sentence."""
    figures = [figure for _, figure in measures.flat(found.metrics.get("summary", {}).get("separation", {}))]
    if not figures:
        return "What this run measured. No two sides were compared."
    clear = sum(not figure.holds(0) for figure in figures)
    wrong = sum(figure.high is not None and figure.high < 0 for figure in figures)
    if not clear:
        return f"No difference between right and left is beyond chance: each of the {len(figures)} intervals holds zero."
    direction = f", {wrong} of them with left and right the other way round" if wrong else ""
    return f"Right and left differ beyond chance in {clear} of {len(figures)} comparisons{direction}."


def done(found: Found) -> Iterator[Section]:
    """What went into the run."""
    posts = [
        [leaning, *(str(figures.get(name, "")) for name in ("posts", "scored", "kept"))]
        for leaning, figures in found.metrics.get("filter", {}).items()
        if isinstance(figures, Mapping) and "posts" in figures
    ]
    training = found.metrics.get("training", {}).items()
    trained = [
        [name, *(format(figures[key], form) if key in figures else "" for key, form in (("steps", ""), ("tokens_seen", ","), ("loss", ".3f")))] for name, figures in training
    ]
    asked = [[name, f"{found['answers']:,}"] for name, found in _totals(found.metrics.get("llm", {}))]
    tables = [
        table("Posts by leaning", ("leaning", "collected", "scored by the language model", "kept"), posts, opened=True) if posts else "",
        table("Adapters", ("adapter", "steps", "tokens seen", "last loss"), trained, opened=True) if trained else "",
        table("Answers asked of language models", ("stage", "answers"), asked) if asked else "",
    ]
    if any(tables):
        yield Section("What was done", paragraph("Posts were collected and scored; adapters of one base model were trained on them; each was measured.") + "".join(tables))


def _totals(usage: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, Mapping[str, int]]]:
    for stage, figures in usage.items():
        groups = [figures] if "answers" in figures else [inner for inner in figures.values() if isinstance(inner, Mapping)]
        yield stage, {"answers": sum(int(str(group.get("answers", 0))) for group in groups)}


def separation(found: Found) -> Iterator[Section]:
    """Right minus left."""
    by_instrument: dict[str, list[tuple[str, Measure, int]]] = {}
    for dataset, figures in found.metrics.get("summary", {}).get("separation", {}).items():
        for name, figure_ in measures.flat(figures):
            by_instrument.setdefault(" ".join(name), []).append((dataset, figure_, 4))
    if by_instrument:
        drawn = [figure(INSTRUMENTS.get(name, name), charts.whiskers(f"Right minus left on {name}", "right minus left", rows)) for name, rows in by_instrument.items()]
        said = "How far adapters tuned on right-leaning posts stand to the right of those tuned on left-leaning ones, with 95 % intervals."
        said += " An interval that holds zero shows no difference."
        yield Section("Right against left", paragraph(said) + panels(drawn))


def compass(found: Found) -> Iterator[Section]:
    """Where adapters go on two axes."""
    lines = found.curves.get("compass", ())
    if not lines:
        return
    names = measure_names(lines)[:2]
    drawn, leanings = [], looks([line["adapter"] for line in lines])
    for dataset, by_adapter in grouped(lines).items():
        series = []
        for adapter, points in by_adapter.items():
            both = [(x, y) for point in points if (x := measured(point, names[0])) and (y := measured(point, names[1]))]
            series += [Series(adapter, leanings[parts(adapter)[0]], tuple(both))] if both else []
        if series:
            drawn.append(figure(f"tuned on {dataset}", charts.trajectories(f"Compass, adapters tuned on {dataset}", names[0], names[1], series)))
    said = "Each path leads from the base model over the checkpoints to the final adapter; the crosses are 95 % intervals. Right and authoritarian are positive."
    yield Section("Compass", paragraph(said) + _legend(lines, leanings) + panels(drawn) + _unplaced(found.metrics.get("compass", {})) + _numbers("compass", lines))


def _unplaced(compass: Mapping[str, object]) -> str:
    """Which models have no place at their last step, and what they do instead."""
    each = []
    for name, figures in compass.items():
        if name == "controls" or not isinstance(figures, Mapping) or "unplaced" not in figures:
            continue
        values = dict(measures.flat(figures))
        reasons = [f"{FAILED.get(one, one)} ({one} {values[one,].value:.3f})" for one in str(figures["unplaced"]).split(", ")]
        each.append(f"{name} {' and '.join(reasons)}")
    return paragraph(f"Not placed at their last step: {'; '.join(each)}.", "soft") if each else ""


def steps(found: Found) -> Iterator[Section]:
    """Every other measure over training steps."""
    for stem, lines in found.curves.items():
        if stem == "compass" or not lines:
            continue
        leanings = looks([line["adapter"] for line in lines])
        drawn = [
            figure(f"{worded(name)}, tuned on {dataset}", charts.curves(f"{stem}: {worded(name)} over steps, tuned on {dataset}", "training step", worded(name), series))
            for name in measure_names(lines)
            if name in CHOSEN.get(stem, (name,))
            for dataset, by_adapter in grouped(lines).items()
            if (series := _over_steps(by_adapter, name, leanings))
        ]
        if drawn:
            said = ABOUT.get(stem, "Over training steps, from the base model at step 0, with 95 % intervals where there are any.")
            yield Section(f"{worded(stem).capitalize()} over steps", paragraph(said) + _legend(lines, leanings) + panels(drawn) + _numbers(stem, lines))


def _over_steps(by_adapter: Mapping[str, Sequence[Line]], name: str, leanings: Mapping[str, int]) -> list[Series]:
    found = []
    for adapter, points in by_adapter.items():
        drawn = tuple((Measure(float(point["step"])), value) for point in points if (value := measured(point, name)))
        found += [Series(adapter, leanings[parts(adapter)[0]], drawn)] if drawn else []
    return found


def affect(found: Found) -> Iterator[Section]:
    """Whose emotions and moral sentiments a model reflects."""
    flat = measures.flat(found.metrics.get("affect", {}))
    cells: dict[tuple[str, ...], Measure] = {name: figure for name, figure in flat if len(name) == 4 and name[3] in ("liberal", "conservative")}
    kinds = dict.fromkeys(name[2] for name in cells)
    drawn = []
    for kind in kinds:
        rows = list(dict.fromkeys(name[:2] for name in cells if name[2] == kind))
        grid = [[_cell(cells.get((*row, kind, group)), cells) for group in ("liberal", "conservative")] for row in rows]
        drawn.append(figure(kind, charts.heatmap(f"Alignment of {kind}", [" · ".join(row) for row in rows], ("liberal", "conservative"), grid, "", "alignment with")))
    if drawn:
        said = "How close the distribution of emotions or moral sentiments in a model's texts comes to that of a group, from 0 to 1."
        yield Section("Affect", paragraph(said) + panels(drawn))


def _cell(found: Measure | None, everything: Mapping[tuple[str, ...], Measure]) -> tuple[float, str] | None:
    if found is None:
        return None
    low, high = min(one.value for one in everything.values()), max(one.value for one in everything.values())
    return ((found.value - low) / (high - low) if high > low else 0.5), f"{found.value:.2f}"


def opinion(found: Found) -> Iterator[Section]:
    """Real answers of a population beside simulated ones, and how much nearer tuning comes to them."""
    body = ""
    if found.answers:
        drawn = [figure(title, charts.dots(f"Mean answers, {title}", "mean answer", rows, 0, 1)) for title, rows in _answered(found.answers).items()]
        said = "What respondents who were kept from training said, with 95 % intervals, and what models say in their place: mean answers of everybody and of groups,"
        said += " from one end of the scale (0) to the other (1)."
        names = list(found.answers[0])
        numbers = table("The numbers of opinion", [worded(name) for name in names], [[line[name] for name in names] for line in found.answers])
        body += paragraph(said) + legend((name, look) for name, look in reversed(ANSWERING.items()) if name in names) + panels(drawn) + numbers
    if reduced := [(worded(" · ".join(name)), figure, 4) for name, figure in measures.flat(found.metrics.get("opinion", {}).get("reduction", {}))]:
        one = figure("share of the divergence", charts.whiskers("Reduction of the divergence", "share by which tuning lowers it", reduced, bars=True))
        body += paragraph("By which share tuning lowers the divergence from the real answers of held-out respondents. Above zero: nearer.") + panels([one])
    if body:
        yield Section("Opinion", body)


def _answered(lines: Sequence[Line]) -> dict[str, list[tuple[str, list[tuple[Measure, int]]]]]:
    """The rows of each item's drawing."""
    items: dict[str, list[tuple[str, list[tuple[Measure, int]]]]] = {}
    for line in lines:
        title = line["item"] + (", not trained on" if line["split"] == "items" else "")
        found = {name: measured(line, name) if name == "real" else Measure(float(line[name])) for name in ANSWERING if line.get(name)}
        items.setdefault(title, []).append((line["group"], [(value, ANSWERING[name]) for name, value in found.items() if value]))
    return items


def filtering(found: Found) -> Iterator[Section]:
    """The filter's scores against gold."""
    drawn = []
    for leaning, rows in confusion(found.metrics):
        cells = [[(n / max(1, sum(count for _, count in row)), str(n)) for _, n in row] for _, row in rows]
        drawn.append(figure(leaning, charts.heatmap(f"Filter, {leaning}", [gold for gold, _ in rows], [score for score, _ in rows[0][1]], cells, "gold", "score")))
    if drawn:
        said = "Posts by the score they should have and the one that the language model gave; the stronger the colour, the larger the share of the row."
        yield Section("Filter against gold", paragraph(said) + panels(drawn))


def everything(found: Found) -> Iterator[Section]:
    """Every figure of every metric file."""
    tables = [table(f"{name}.json", ("figure", "value"), [[" · ".join(keys), str(figure)] for keys, figure in measures.flat(figures)]) for name, figures in found.metrics.items()]
    if tables:
        yield Section("All figures", "".join(tables))


def grouped(lines: Sequence[Line]) -> dict[str, dict[str, list[Line]]]:
    """Rows by dataset and adapter, steps in order."""
    groups: dict[str, dict[str, list[Line]]] = {}
    for line in sorted(lines, key=lambda line: float(line["step"])):
        groups.setdefault(parts(line["adapter"])[1] or "all", {}).setdefault(line["adapter"], []).append(line)
    return groups


def worded(name: str) -> str:
    """A column's name as people write it."""
    return name.replace("_", " ")


def _legend(lines: Sequence[Line], leanings: Mapping[str, int]) -> str:
    return legend((name, leanings[name]) for name in dict.fromkeys(parts(line["adapter"])[0] for line in lines))


def _numbers(stem: str, lines: Sequence[Line]) -> str:
    names = measure_names(lines)
    return table(f"The numbers of {stem}", ("adapter", "step", *names), [[line["adapter"], line["step"], *(str(measured(line, name) or "") for name in names)] for line in lines])


SECTIONS = (done, separation, compass, steps, affect, opinion, filtering, everything)
"In the order of the page."
