import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from benchmarks import ablation

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docs/ablation.json"


def test_the_page_is_made_of_the_committed_figures() -> None:
    found = json.loads(FILE.read_text(encoding="utf-8"))
    assert (ROOT / "docs/ablation.md").read_text(encoding="utf-8") == ablation.page(found)
    assert found["budget"] == list(ablation.BUDGET)
    assert {name: tuple(arm["changes"]) for name, arm in found["arms"].items()} == {**ablation.ARMS, ablation.FOREST: ()}


def test_a_page_has_a_row_for_every_arm() -> None:
    arms = {"default": {"changes": [], "figures": {"kl": 0.01234}}, "β = 0": {"changes": ["simulate.beta=0"], "figures": {"kl": 0.02, "read": 0.5}}}
    lines = ablation.page({"budget": ["simulate.steps=3"], "arms": arms}).splitlines()
    assert "`simulate.steps=3`" in lines[2]
    assert [line for line in lines if line.startswith(("| default", "| β"))] == [
        "| default | – | 0.012 | – | – | – | – | – | – | – |",
        "| β = 0 | `simulate.beta=0` | 0.020 | – | – | – | – | – | – | 0.500 |",
    ]


def test_every_term_and_balancing_is_switched_by_name() -> None:
    parameters: Any = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    for change in (*ablation.BUDGET, *(change for arm in ablation.ARMS.values() for change in arm)):
        section = parameters
        for key in change.partition("=")[0].split("."):
            assert key in section, change
            section = section[key]
    assert {change.partition("=")[0] for arm in ablation.ARMS.values() for change in arm} == {"simulate.alpha", "simulate.beta", "simulate.gamma", "interview.balance.active"}


def test_figures_are_taken_from_the_metrics_of_one_model() -> None:
    own = {name: {"value": 0.1, "low": 0.0, "high": 0.2} for name in ("kl", "kl_groups", "parity_gap")} | {"worst_group": {"kl": 0.3, "gap": 0.1, "group": "a: b"}, "log_loss": 0.9}
    metrics = {"tuned": {"respondents": own}, "forest": {"respondents": own | {"log_loss": 0.8}}, "valid": {"tuned": 0.97}}
    log = [{"held_out_read": 0.9}, {"held_out_read": 0.5}]
    assert ablation.figures(metrics, log, "tuned") == pytest.approx({"kl": 0.1, "kl_groups": 0.1, "parity_gap": 0.1, "worst": 0.3, "log_loss": 0.9, "valid": 0.97, "read": 0.5})
    assert "read" not in ablation.figures(metrics, [{"loss": 1.0}], "forest")
    assert "valid" not in ablation.figures(metrics, [], "forest")
