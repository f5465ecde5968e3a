import json
import re
import subprocess
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.reporting import pull_request
from stages.reporting.revisions import Revision, parting

LOCK = """
stages:
  contrast@left:
    cmd: python contrast
    deps:
    - path: prompts/contrast.yaml
      md5: {md5}
    outs:
    - path: data/preferences/left.parquet
  dpo@left:
    cmd: python dpo
    deps:
    - path: data/preferences/left.parquet
      md5: {md5}2
    outs:
    - path: models/adapters/left-preference
  compass:
    cmd: python compass
    deps:
    - path: models/adapters
      md5: same
  agreement:
    cmd: python agreement
    deps:
    - path: data/scored
"""


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], check=True, capture_output=True)


def write(beta: float, wording: str, value: float, md5: str) -> None:
    Path("params.yaml").write_text(f"dpo:\n  beta: {beta}  # higher: closer\n  steps: 16\nleanings:\n- left\n")
    Path("prompts/contrast.yaml").write_text(f"system: Answer.\nuser: {wording}\n")
    separation = {"preference": {"judge": {"value": value, "low": value - 1, "high": value + 1}}}
    Path("metrics/summary.json").write_text(json.dumps({"separation": separation}))
    Path("metrics/compass.json").write_text(json.dumps({"base": {"valid": 0.5}}))
    Path("metrics/headline.json").write_text(json.dumps({"right_minus_left": {"preference": {"judge": value}}}))  # told by summary.json already
    Path("dvc.lock").write_text(LOCK.format(md5=md5))


@pytest.fixture
def branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in ("prompts", "metrics"):
        Path(folder).mkdir()
    git("init", "-q", "-b", "main")
    write(0.1, "in two or three sentences", 1.0, "a")
    git("add", "-A")
    git("commit", "-qm", "before")
    git("switch", "-qc", "change")
    write(0.3, "in two sentences", 4.0, "b")
    git("commit", "-qam", "after")
    return tmp_path


def between(after: str = "HEAD") -> str:
    pull_request.main("main", after, Path("report"))
    return Path("report/report.md").read_text()


def test_a_changed_parameter_prompt_and_figure_are_shown(branch: Path) -> None:
    text = between()
    assert "| `dpo.beta` | `0.1` | `0.3` |" in text
    assert "dpo.steps" not in text
    assert "-user: in two or three sentences\n+user: in two sentences\n" in text
    assert "| separation · preference · judge | 1.0 (0.0 to 2.0) | 4.0 (3.0 to 5.0) | +3 | **beyond** |" in text
    assert "1 figures change: 1 beyond; 1 are the same." in text
    assert "Run again on this branch: `contrast` (left), `dpo` (left)." in text


def test_equal_commits_differ_in_nothing(branch: Path) -> None:
    pull_request.main("HEAD", "HEAD", Path("report"))
    text = Path("report/report.md").read_text()
    for phrase in ("No parameter changes.", "No prompt changes.", "No figure changes (2 are the same).", "Run again on this branch: none."):
        assert phrase in text


def test_the_same_commits_give_the_same_report(branch: Path) -> None:
    assert between() == between()


def test_what_happened_on_main_since_is_not_counted(branch: Path) -> None:
    git("switch", "-q", "main")
    write(9.9, "otherwise", 9.0, "c")
    git("commit", "-qam", "elsewhere")
    git("switch", "-q", "change")
    assert "| `dpo.beta` | `0.1` | `0.3` |" in between()


def test_the_working_tree_can_be_looked_at_too(branch: Path) -> None:
    write(0.7, "briefly", 1.5, "b")
    text = pull_request.report(Revision(parting("main")), Revision(None), "t", [], ["dpo@left"])
    assert "| `dpo.beta` | `0.1` | `0.7` |" in text
    assert "| 1.0 (0.0 to 2.0) | 1.5 (0.5 to 2.5) | +0.5 | within |" in text
    assert "Still to run (`dvc repro`): `dpo` (left). **The figures above are not those" in text


def test_pictures_are_linked_where_they_will_lie(branch: Path) -> None:
    Path("report").mkdir()
    Path("report/judge.svg").write_text("<svg/>")
    pull_request.main("main", "HEAD", Path("report"), pictures="https://example.org/7/")
    assert "![judge](https://example.org/7/judge.svg)" in Path("report/report.md").read_text()


def test_what_is_merely_not_on_this_machine_need_not_run(branch: Path) -> None:
    lock = Path("dvc.lock").read_text()
    away = {"contrast@left": [{"changed outs": {"data/preferences/left.parquet": "deleted"}}], "compass": [{"changed deps": {"models/adapters": "deleted"}}]}
    assert pull_request.pending(away, lock) == []
    emptied = {"filter@left": [{"changed outs": {"data/scored/left.parquet": "deleted"}}], "agreement": [{"changed deps": {"data/scored": "modified"}}]}
    assert pull_request.pending(emptied, lock) == []  # git keeps the folder for its .gitignore
    fresh = emptied | {"filter@left": [{"changed outs": {"data/scored/left.parquet": "not in cache"}}]}
    assert pull_request.pending(fresh, lock) == []  # a clone without a cache
    emptied["agreement"][0]["changed deps"]["stages/metrics/agreement.py"] = "modified"
    assert pull_request.pending(emptied, lock) == ["agreement"]


@pytest.mark.parametrize(
    "note",
    ["changed command", {"changed deps": {"prompts/contrast.yaml": "modified"}}, {"changed deps": {"params.yaml": {"contrast.seed": "modified"}}}],
    ids=["command", "file", "parameter"],
)
def test_a_changed_stage_takes_along_what_depends_on_it(branch: Path, note: object) -> None:
    assert pull_request.pending({"contrast@left": [note]}, Path("dvc.lock").read_text()) == ["contrast@left", "dpo@left", "compass"]


def test_no_backtick_of_a_prompt_ends_the_block() -> None:
    text = pull_request.prompts("+a\n+````\n+b\n")
    assert re.findall("^`+", text, re.MULTILINE) == ["`````", "`````"]


def test_a_bar_in_a_parameter_stays_in_its_cell() -> None:
    assert pull_request.parameters("a: x", "a: x|y").splitlines()[-1] == '| `a` | `"x"` | `"x\\|y"` |'


def test_an_unknown_commit_is_refused(branch: Path) -> None:
    with pytest.raises(InputError, match=r"merge-base nowhere HEAD.*Does the commit exist"):
        pull_request.main("nowhere", "HEAD", Path("report"))
