import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.core.errors import InputError
from stages.metrics import report
from stages.reporting import found as finding
from stages.reporting import measures
from stages.reporting.found import Found, Line, measure_names, measured
from stages.reporting.measures import Measure

ROOT = Path(__file__).parents[2]
EMPTY = Found({}, {})


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 1, "high": value + 1}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    metrics = Path("metrics")
    (metrics / "plots").mkdir(parents=True)
    confusion = {f"gold_{i}": {f"score_{j}": i + j for j in range(4)} for i in range(4)}
    files = {
        "summary": {"separation": {"posts": {"judge": interval(3.0), "compass_social": interval(0.5)}}},
        "filter": {"left": {"posts": 90, "scored": 80, "kept": 40, "confusion": confusion}},
        "affect": {"base": {"none": {"emotion": {"liberal": interval(0.7), "conservative": interval(0.6)}}}, "floor": 0.4},
        "opinion": {"reduction": {"kl": interval(0.3)}},
        "training": {"left-posts": {"steps": 2, "tokens_seen": 2000, "loss": 1.54321}},
        "novelty": {"left-posts": {"wonder": 0.123456}},
    }
    for name, figures in files.items():
        (metrics / f"{name}.json").write_text(json.dumps(figures))
    (metrics / "plots/compass.csv").write_text(
        "adapter,step,economic,economic_low,economic_high,social,social_low,social_high\nleft-posts,0,0,-1,1,0,-1,1\nleft-posts,8,-2,-3,-1,1,0,2\n"
    )
    (metrics / "plots/capability.csv").write_text("adapter,step,truth,low,high\nleft-posts,0,0.5,0.4,0.6\nleft-posts,8,0.4,,\n")
    (metrics / "plots/opinion.csv").write_text(
        "split,item,attribute,group,n,real,low,high,base,tuned,oracle\n"
        "respondents,parks,everybody,everybody,90,0.5,0.4,0.6,0.1,0.5,0.2\nrespondents,parks,age,18 to 29,9,0.7,0.2,0.9,0.1,0.5,0.2\n"
        "items,tax,everybody,everybody,90,0.3,0.2,0.4,0.1,0.5,0.2\n"
    )
    (metrics / "plots/domains.csv").write_text("domain,n\nexample.org,4\n")
    (metrics / "plots/training.csv").write_text("adapter,step,loss,learning_rate,held_out_loss\nleft-posts,1,2.0,0.1,\nleft-posts,2,1.5,0.2,1.8\n")
    return tmp_path


def made() -> str:
    report.main(Path("metrics"), Path("metrics/plots/confusion.csv"), Path("metrics/report"), Path("metrics/headline.json"))
    return Path("metrics/report/index.html").read_text()


def headings(page: str) -> list[str]:
    return re.findall(r"<h2 id=[^>]+>(.+?)</h2>", page)


def test_each_part_is_there_if_its_data_are(run: Path) -> None:
    expected = ["What was done", "Right against left", "Compass", "Capability over steps", "Training over steps", "Affect", "Opinion", "Filter against gold", "All figures"]
    assert headings(made()) == expected
    Path("metrics/affect.json").unlink()
    Path("metrics/plots/compass.csv").unlink()
    assert headings(made()) == [name for name in expected if name not in ("Affect", "Compass")]


def test_a_run_that_left_nothing_has_a_page_too() -> None:
    page = report.render(EMPTY)
    assert headings(page) == []
    assert "No two sides were compared." in page


def test_a_metric_that_nobody_knew_of_is_listed(run: Path) -> None:
    page = made()
    assert "novelty.json" in page
    assert "<td>left-posts · wonder</td><td>0.1235</td>" in page


def test_the_headline_counts_intervals_without_zero(run: Path) -> None:
    assert "Right and left differ beyond chance in 1 of 2 comparisons." in made()  # 3 ± 1 leaves zero out, 0.5 ± 1 does not


def test_models_without_a_place_on_the_compass_are_named_with_the_reason(run: Path) -> None:
    assert "Not placed" not in made()
    tilted = {"unplaced": "acquiescence, order_effect", "acquiescence": interval(0.5), "order_effect": 0.41, "valid": 0.9}
    figures = {"left-posts": {"valid": 0.0051, "unplaced": "valid"}, "base": {"valid": 0.4, "economic": interval(0)}, "right-posts": tilted, "controls": {"agrees": tilted}}
    Path("metrics/compass.json").write_text(json.dumps(figures))
    said = re.findall("Not placed at their last step: ([^<]+)<", made())
    assert said == [
        "left-posts hardly gives any of the options (valid 0.005); right-posts answers a statement and its opposite alike (acquiescence 0.500)"
        " and follows the order of the options (order_effect 0.410)."
    ]


def test_training_is_told_once_and_drawn_by_what_matters(run: Path) -> None:
    page = made()
    assert "<td>left-posts</td><td>2</td><td>2,000</td><td>1.543</td>" in page
    assert re.findall(r"<h3>([\w ]*loss|learning rate), tuned on posts</h3>", page) == ["loss", "held out loss"]
    assert '<th scope="col">learning_rate</th>' in page


def test_real_answers_are_drawn_beside_those_of_models_item_by_item(run: Path) -> None:
    section = made().partition('<h2 id="opinion">')[2].partition("</section>")[0]
    drawings = dict(re.findall(r"<h3>([^<]+)</h3>(<svg.+?</svg>)", section))
    assert list(drawings) == ["parks", "tax, not trained on", "share of the divergence"]
    assert [drawings[name].count('class="dot') for name in ("parks", "tax, not trained on")] == [6, 3]  # real, base and tuned; nobody knows an oracle
    assert drawings["parks"].count("whisker") == 2
    assert re.findall(r"</svg> (\w+)</li>", section) == ["real", "tuned", "base"]
    Path("metrics/opinion.json").unlink()
    assert "Opinion" in headings(made())
    Path("metrics/plots/opinion.csv").unlink()
    assert "Opinion" not in headings(made())


def test_the_page_can_load_nothing_and_runs_no_script(run: Path) -> None:
    page = made()
    assert "default-src 'none'" in page
    assert not re.findall(r"<script|<link|<img|<iframe|@import|url\(|src=|https?://", page)


class Nesting(HTMLParser):
    """Every opened element is closed in order."""

    open: list[str]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_every_link_leads_somewhere(run: Path) -> None:
    page = made()
    parser = Nesting()
    parser.open = []
    parser.feed(page)
    assert parser.open == []
    assert set(re.findall(r'href="#(.+?)"', page)) <= set(re.findall(r'id="(.+?)"', page))
    assert len(re.findall(r'id="(.+?)"', page)) == len(set(re.findall(r'id="(.+?)"', page)))


def test_names_from_files_cannot_become_markup() -> None:
    page = report.render(Found({"x": {"<b>": {"value": 1, "low": 0, "high": 2}}}, {}))
    assert "<b>" not in page
    assert "&lt;b&gt;" in page


def test_the_table_for_dvc_plots_holds_the_confusion(run: Path) -> None:
    made()
    cells = list(csv.DictReader(Path("metrics/plots/confusion.csv").read_text().splitlines()))
    cell = next(row for row in cells if (row["gold"], row["score"]) == ("1", "2"))
    assert (cell["panel"], cell["posts"], float(cell["value"])) == ("left", "3", 0.3)  # of 1 + 2 + 3 + 4
    Path("metrics/filter.json").unlink()
    made()
    assert Path("metrics/plots/confusion.csv").read_text() == "panel,gold,score,posts,value\n"


def test_measures_of_a_curve_are_its_columns_that_end_no_interval() -> None:
    lines: list[Line] = [
        {"adapter": "a", "step": "0", "x": "1", "x_low": "0", "x_high": "2", "y": "", "note": "text"},
        {"adapter": "a", "step": "1", "x": "", "y": "3", "note": "text"},
    ]
    assert measure_names(lines) == ["x", "y"]
    assert measured(lines[0], "x") == Measure(1, 0, 2)
    assert measured(lines[1], "x") is None


def test_the_headline_has_figures_without_intervals_and_is_not_repeated(run: Path) -> None:
    page = made()
    assert json.loads(Path("metrics/headline.json").read_text()) == {
        "right_minus_left": {"posts": {"judge": 3.0, "social": 0.5}},
        "reduction": {"kl": 0.3},
    }
    assert made() == page


def test_the_headline_of_the_committed_run_is_short() -> None:
    committed = json.loads((ROOT / "metrics/headline.json").read_text())
    figures = dict(measures.flat(committed))
    summary, affect = (json.loads((ROOT / f"metrics/{name}.json").read_text()) for name in ("summary", "affect"))
    assert 10 <= len(figures) <= 24
    assert committed["right_minus_left"]["synthetic"]["judge"] == summary["separation"]["synthetic"]["judge"]["value"]
    assert committed["undo"]["balanced-left-synthetic"] == summary["undo"]["balanced-left-synthetic"]["judge"]["value"]
    assert committed["filter_kappa"] == summary["filter_kappa"]
    assert committed["tendency"]["moral"] == affect["base"]["none"]["moral"]["tendency"]["value"]


def test_dvc_lists_the_headline_alone() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    assert [path for stage in stages.values() for path in stage.get("do", stage).get("metrics", [])] == [{"metrics/headline.json": {"cache": False}}]


def test_a_broken_file_is_refused(run: Path) -> None:
    Path("metrics/judge.json").write_text("{")
    with pytest.raises(InputError, match=r"judge\.json: is not valid JSON"):
        finding.read(Path("metrics"))


def test_every_metric_of_the_graph_brings_a_new_report() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    listed = {path if isinstance(path, str) else next(iter(path)) for path in stages["report"]["deps"]}
    for name, stage in stages.items():
        if name != "report":
            files = [path if isinstance(path, str) else next(iter(path)) for kind in ("outs", "plots") for path in stage.get("do", stage).get(kind, [])]
            assert {file for file in files if file.startswith("metrics/") and file.endswith((".json", ".csv"))} <= listed, name
