"""The templates of `dvc plots` fit the tables that dvc.yaml names them for."""

import csv
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
TEMPLATES = {path.stem: path.read_text() for path in (ROOT / ".dvc/plots").glob("*.json")}
GRAPH = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())


def plots() -> list[tuple[str, dict[str, str]]]:
    found = [entry for stage in GRAPH["stages"].values() for entry in stage.get("do", stage).get("plots", [])] + GRAPH.get("plots", [])
    return [next(iter(entry.items())) for entry in found if isinstance(entry, dict)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_holds_the_places_that_dvc_fills(name: str) -> None:
    text = TEMPLATES[name]
    assert json.loads(text)["data"] == {"values": "<DVC_METRIC_DATA>"}
    assert "<DVC_METRIC_X>" in text
    assert "<DVC_METRIC_Y>" in text


@pytest.mark.parametrize("name", sorted(set(TEMPLATES) - {"answers"}))
def test_a_blank_cell_is_left_out_and_not_drawn_at_zero(name: str) -> None:
    filters = [step["filter"] for step in json.loads(TEMPLATES[name])["transform"] if "filter" in step]
    for axis in ("X", "Y") if name == "compass" else ("Y",):
        assert any(f"datum['<DVC_METRIC_{axis}>'] !== ''" in one for one in filters)  # the scale would make a zero of it


@pytest.mark.parametrize(("path", "options"), plots(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_plotted_table_has_the_columns_of_its_axes(path: str, options: dict[str, str]) -> None:
    if (ROOT / path).exists():
        columns = next(csv.reader((ROOT / path).read_text().splitlines()))
        assert {options["x"], options["y"]} <= set(columns)
    if "template" in options:
        assert options["template"] in TEMPLATES
