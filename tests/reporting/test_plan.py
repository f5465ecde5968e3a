import json
import os
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.reporting import plan

ROOT = Path(__file__).parents[2]
LOCK = """
stages:
  base:
    outs:
    - path: models/base
  filter@left:
    deps:
    - path: models/base/model.gguf
  filter@right:
    deps:
    - path: models/base/model.gguf
"""


@pytest.fixture
def fake_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name which prints what DVC would."""
    program = tmp_path / "bin" / "dvc"
    program.parent.mkdir()
    lines = ["import sys", "from pathlib import Path", "print(Path('said').read_text())", "sys.exit(int(Path('code').read_text()) * ('--dry' not in sys.argv))"]
    program.write_text("\n".join([f"#!{sys.executable}", *lines]) + "\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(LOCK)
    Path("code").write_text("0")
    return tmp_path


def kept() -> dict[str, float]:
    return dict(json.loads((Path(os.environ["PLUMBLINE_STATE"]) / "runs/durations.json").read_text()))


def test_what_depends_on_a_changed_stage_is_planned_too() -> None:
    assert plan.planned("Stage 'x' didn't change\nRunning stage 'base':\n> python\n", LOCK) == ["base", "filter@left", "filter@right"]
    assert plan.planned("Running stage 'filter@left':\n", LOCK) == ["filter@left"]
    assert plan.planned("Data and pipelines are up to date.", LOCK) == []


def test_the_plan_adds_up_the_times_of_a_stage() -> None:
    text = plan.announcement(["base", "filter@left", "filter@right"], {"base": 19.0, "filter@left": 70.0, "filter@right": 50.0})
    assert [line.split()[:3] for line in text.splitlines()[1:3]] == [["base", "19", "s"], ["filter", "2", "min"]]
    assert "filter (left, right)" in text
    assert text.splitlines()[-1].split()[:4] == ["in", "all", "2", "min,"]


def test_a_stage_that_never_ran_has_no_time() -> None:
    assert "not known yet" in plan.announcement(["new"], {})


def test_nothing_to_run_is_said() -> None:
    assert "no stage has to run" in plan.announcement([], {})


def test_times_of_a_run_are_kept_for_the_next(fake_dvc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("said").write_text("Running stage 'base':\n> python\nUpdating lock file 'dvc.lock'\nRunning stage 'filter@left':\nUpdating lock file 'dvc.lock'\n")
    assert plan.main([]) == 0
    assert set(kept()) == {"base", "filter@left"}
    assert "To run: 3 stages" in capsys.readouterr().out


def test_a_failed_stage_leaves_no_time_and_a_full_disk_is_explained(fake_dvc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "FULL", 1e9)
    Path("said").write_text("Running stage 'base':\n")
    Path("code").write_text("255")
    assert plan.main([]) == 255
    assert kept() == {}
    assert "dvc gc -w" in capsys.readouterr().err


def test_the_committed_times_are_those_of_stages_of_the_graph() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {name.split("@")[0] for name in json.loads((ROOT / "benchmarks/durations.json").read_text())} <= set(stages)
