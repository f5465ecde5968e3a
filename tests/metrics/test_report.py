import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.errors import InputError
from stages.metrics import report
from stages.reporting import found as finding
from stages.reporting.found import Found, Line, measure_names, measured
from stages.reporting.measures import Measure

ROOT = Path(__file__).parents[2]
EMPTY = Found({}, {}, {})


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 1, "high": value + 1}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    metrics, adapter = Path("metrics"), Path("models/adapters/left-posts")
    (metrics / "plots").mkdir(parents=True)
    adapter.mkdir(parents=True)
    confusion = {f"gold_{i}": {f"score_{j}": i + j for j in range(4)} for i in range(4)}
    files = {
        "summary": {"separation": {"posts": {"judge": interval(3.0), "compass_social": interval(0.5)}}},
        "filter": {"left": {"posts": 90, "scored": 80, "kept": 40, "confusion": confusion}},
        "affect": {"base": {"none": {"emotion": {"liberal": interval(0.7), "conservative": interval(0.6)}}}, "floor": 0.4},
        "opinion": {"reduction": {"kl": interval(0.3)}},
        "novelty": {"left-posts": {"wonder": 0.123456}},
    }
    for name, figures in files.items():
        (metrics / f"{name}.json").write_text(json.dumps(figures))
    (metrics / "plots/compass.csv").write_text(
        "adapter,step,economic,economic_low,economic_high,social,social_low,social_high\nleft-posts,0,0,-1,1,0,-1,1\nleft-posts,8,-2,-3,-1,1,0,2\n"
    )
    (metrics / "plots/capability.csv").write_text("adapter,step,truth,low,high\nleft-posts,0,0.5,0.4,0.6\nleft-posts,8,0.4,,\n")
    (metrics / "plots/domains.csv").write_text("domain,n\nexample.org,4\n")
    log = [{"step": 1, "tokens_seen": 10, "loss": 2.0}, {"step": 2, "tokens_seen": 20, "loss": 1.5, "held_out_loss": 1.8}]
    (adapter / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    Path("models/adapters/old-posts").mkdir()
    Path("models/adapters/old-posts/log.jsonl").write_text('{"step": 1, "loss": 9}\n')
    YAML().dump({"leanings": ["left"], "sft": {"datasets": ["posts"]}}, Path("params.yaml"))
    return tmp_path


def made() -> str:
    report.main(Path("metrics"), Path("models/adapters"), Path("metrics/plots/report"), Path("metrics/report"))
    return Path("metrics/report/index.html").read_text()


def headings(page: str) -> list[str]:
    return re.findall(r"<h2 id=[^>]+>(.+?)</h2>", page)


def rows(name: str) -> list[dict[str, str]]:
    with Path(f"metrics/plots/report/{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_each_part_is_there_if_its_data_are(run: Path) -> None:
    expected = ["What was done", "Right against left", "Compass", "Capability over steps", "Training", "Affect", "Opinion", "Filter against gold", "All figures"]
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


def test_adapters_that_are_not_listed_are_left_alone(run: Path) -> None:
    assert "old-posts" not in made()


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
    page = report.render(Found({"x": {"<b>": {"value": 1, "low": 0, "high": 2}}}, {}, {}))
    assert "<b>" not in page
    assert "&lt;b&gt;" in page


def test_tables_for_dvc_plots_hold_losses_and_confusion(run: Path) -> None:
    made()
    assert [(row["step"], row["loss"], row["held_out_loss"]) for row in rows("loss")] == [("1", "2.0", ""), ("2", "1.5", "1.8")]
    cell = next(row for row in rows("confusion") if (row["gold"], row["score"]) == ("1", "2"))
    assert (cell["panel"], cell["posts"], float(cell["value"])) == ("left", "3", 0.3)  # of 1 + 2 + 3 + 4
    assert rows("affect")[0] == {"panel": "emotion", "model": "base none", "group": "liberal", "value": "0.7", "low": "-0.3", "high": "1.7"}
    assert rows("opinion")[0]["measure"] == "kl"


def test_measures_of_a_curve_are_its_columns_that_end_no_interval() -> None:
    lines: list[Line] = [
        {"adapter": "a", "step": "0", "x": "1", "x_low": "0", "x_high": "2", "y": "", "note": "text"},
        {"adapter": "a", "step": "1", "x": "", "y": "3", "note": "text"},
    ]
    assert measure_names(lines) == ["x", "y"]
    assert measured(lines[0], "x") == Measure(1, 0, 2)
    assert measured(lines[1], "x") is None


def test_a_broken_file_is_refused(run: Path) -> None:
    Path("metrics/judge.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        finding.read(Path("metrics"), Path("models/adapters"))


def test_every_metric_of_the_graph_brings_a_new_report() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    listed = {path if isinstance(path, str) else next(iter(path)) for path in stages["report"]["deps"]}
    for name, stage in stages.items():
        if name != "report":
            files = [path if isinstance(path, str) else next(iter(path)) for kind in ("metrics", "plots") for path in stage.get("do", stage).get(kind, [])]
            assert set(files) <= listed, name
