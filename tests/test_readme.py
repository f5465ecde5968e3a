"""What the README shows comes from the committed metrics and the graph."""

import json
import re
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COLUMNS = {"compass_economic": "compass, economic", "compass_social": "compass, social", "judge": "judge"}


def results_table() -> str:
    summary = json.loads((ROOT / "metrics/summary.json").read_text())

    def cell(found: dict[str, float]) -> str:
        return f"{found['value']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"

    lines = ["| adapters tuned on | " + " | ".join(COLUMNS.values()) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    lines += [f"| {dataset} | " + " | ".join(cell(found[name]) for name in COLUMNS) + " |" for dataset, found in summary["separation"].items()]
    return "\n".join(lines)


def test_the_table_of_results_is_that_of_the_metrics() -> None:
    shown = README.split("<!-- results -->")[1].split("<!-- /results -->")[0].strip()
    assert shown == results_table()


def test_the_picture_and_the_table_hold_every_stage() -> None:
    stages = set(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"])
    picture = README.split("```mermaid")[1].split("```")[0]
    assert set(re.findall(r"\b[a-z]+\b", picture.split("\n", 2)[2])) == stages
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.+?) \|", README, re.MULTILINE)))) == stages


def test_every_parameter_named_in_a_command_exists() -> None:
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    named = re.findall(r"-S '?([\w.]+)=", README)
    assert named
    for key in named:
        value = params
        for part in key.split("."):
            assert part in value, key
            value = value[part]
