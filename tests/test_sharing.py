"""What one pushes, another pulls, and then has nothing to run. On the whole graph, with stand-ins for what its stages write: DVC minds hashes, not content."""

import json
import shutil
from pathlib import Path

import pytest

from tests import repositories
from tests.repositories import run, stages_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose graph has run, by the word of its lock file."""
    folder = repositories.copy(tmp_path_factory.mktemp("sharing") / "project", lambda name: name != "dvc.lock")
    repositories.begin(folder)
    repositories.finish(folder)
    return folder


@pytest.fixture(scope="module")
def clone(finished: Path) -> Path:
    return repositories.share(finished, finished.parent)


def test_after_a_pull_nothing_runs(finished: Path, clone: Path) -> None:
    assert not (clone / "models/base").exists()
    run(clone, "dvc", "pull")
    assert stages_run(run(clone, "dvc", "repro")) == set()
    assert json.loads(run(clone, "dvc", "status", "--json")) == {}
    for file in repositories.stand_ins(finished):
        assert (clone / file.relative_to(finished)).read_bytes() == file.read_bytes()


def test_after_a_pull_a_changed_parameter_runs_what_it_asks_for(clone: Path) -> None:
    file = clone / "params.yaml"
    before = file.read_text()
    file.write_text(before.replace("  threshold: 2  #", "  threshold: 3  #", 1))
    planned = stages_run(run(clone, "dvc", "repro", "--dry"))
    file.write_text(before)
    assert planned >= {"filter", "agreement"}
    assert not planned & {"base", "collect", "survey", "speak"}


@pytest.mark.parametrize("remote", [True, False], ids=["with a remote", "without one"])
def test_figures_of_two_commits_compare(clone: Path, tmp_path: Path, remote: bool) -> None:
    other = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(clone), "clone")
    run(other, "git", "config", "user.name", "t")
    run(other, "git", "config", "user.email", "t@example.org")
    if remote:
        shutil.copytree(clone.parent / "storage", tmp_path / "storage")
        run(other, "dvc", "remote", "add", "--default", "--force", "storage", str(tmp_path / "storage"))
        run(other, "dvc", "pull")
    else:
        run(other, "dvc", "remote", "remove", "storage")
    (other / "metrics/headline.json").write_text('{"figure": 3}')
    difference = {"metrics/headline.json": {"figure": {"old": 1, "new": 3, "diff": 2}}}
    assert json.loads(run(other, "dvc", "metrics", "diff", "HEAD", "--json")) == difference  # of the files as they are
    repositories.commit(other)
    assert json.loads(run(other, "dvc", "metrics", "diff", "HEAD~1", "HEAD", "--json")) == difference
