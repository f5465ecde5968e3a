"""Where state is kept, and the command line that takes its locks there."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core import command
from stages.core.errors import InputError
from stages.core.workspace import repository_root, state_folder

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, own_state: None) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)


@pytest.mark.parametrize("copy", [".dvc/tmp/exps/tmpa1b2", ".dvc/tmp/exps/standard/tmpa1b2", ".dvc/tmp/exps"])
def test_a_temporary_copy_leads_to_the_outer_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: str) -> None:
    (tmp_path / "repository" / copy).mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository" / copy))
    assert repository_root() == tmp_path / "repository"


def test_a_temporary_copy_is_known_without_dvc_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".dvc/tmp/exps/standard/tmpa1b2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / ".dvc/tmp/exps/standard/tmpa1b2")
    assert repository_root() == tmp_path


@pytest.mark.parametrize("folder", ["repository", "tmp/exps/repository", ".dvc/tmp/repository", "my.dvc/tmp/exps/repository"])
def test_any_other_folder_is_its_own_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / folder)
    assert repository_root() == tmp_path / folder


def test_a_temporary_copy_and_its_repository_share_their_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLUMBLINE_STATE")
    (tmp_path / ".dvc/tmp/exps/tmpa1b2").mkdir(parents=True)
    found = []
    for folder in (tmp_path, tmp_path / ".dvc/tmp/exps/tmpa1b2"):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DVC_ROOT", str(folder))
        found.append(state_folder("llm"))
    assert found == [tmp_path / ".plumbline" / "llm"] * 2
    assert found[0].is_dir()


def test_the_environment_moves_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_STATE", str(tmp_path / "disk"))
    assert state_folder("locks") == tmp_path / "disk" / "locks"
    assert (tmp_path / "disk" / "locks").is_dir()


STAGE = '''"""Copies a text once it is told to."""

from pathlib import Path

from stages.core import command
from stages.core.errors import InputError


def main(source: Path, mode: str) -> None:
    if mode == "wait":
        print("started", flush=True)
        input()
    if mode == "fail":
        raise ZeroDivisionError("a mistake in the code")
    if not source.is_file():
        raise InputError(f"{source}: there is no such text. Write it.")
    print(source.read_text())


if __name__ == "__main__":
    command.run(main)
'''


class Stage:
    """A stage in a folder of its own, run as users run it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        (folder / "copying.py").write_text(STAGE)
        (folder / "text.txt").write_text("a text")

    def start(self, *arguments: str, folder: Path | None = None) -> "subprocess.Popen[str]":
        command_line = [sys.executable, "-m", "copying", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command_line, cwd=folder or self.folder, env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate("\n", timeout=60)
        return process.returncode, out, err


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_a_stage_gets_its_arguments(stage: Stage) -> None:
    assert stage.run("text.txt", "copy") == (0, "a text\n", "")


def test_unusable_input_ends_with_code_2_and_a_message_without_a_traceback(stage: Stage) -> None:
    assert stage.run("absent.txt", "copy") == (2, "", "copying: absent.txt: there is no such text. Write it.\n")


def test_a_mistake_in_the_code_keeps_its_traceback(stage: Stage) -> None:
    code, _, err = stage.run("text.txt", "fail")
    assert code == 1
    assert "Traceback" in err
    assert "a mistake in the code" in err


def test_a_missing_argument_is_named(stage: Stage) -> None:
    code, _, err = stage.run("text.txt")
    assert code == 2
    assert "mode" in err
    assert "Traceback" not in err


def test_help_is_the_docstring_of_the_module(stage: Stage) -> None:
    code, out, _ = stage.run("--help")
    assert code == 0
    assert "python -m copying" in out
    assert "Copies a text once it is told to." in out


def test_a_second_process_with_the_same_command_refuses(stage: Stage) -> None:
    with stage.start("text.txt", "wait") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "started\n"
        code, out, err = stage.run("text.txt", "wait")
        other = stage.run("text.txt", "copy")
        rest, _ = first.communicate("\n", timeout=60)
    assert (code, out) == (2, "")
    assert "still running" in err
    assert str(stage.folder) in err
    assert "Traceback" not in err
    assert other == (0, "a text\n", "")
    assert (first.returncode, rest) == (0, "a text\n")
    assert stage.run("text.txt", "wait") == (0, "started\na text\n", "")


def test_the_same_command_in_another_folder_may_run(stage: Stage) -> None:
    elsewhere = stage.folder / "elsewhere"
    elsewhere.mkdir()
    second = Stage(elsewhere)
    with stage.start("text.txt", "wait") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "started\n"
        assert second.run("text.txt", "wait")[0] == 0
        first.communicate("\n", timeout=60)


def test_a_killed_process_leaves_no_lock(stage: Stage) -> None:
    with stage.start("text.txt", "wait") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "started\n"
        first.kill()
    assert stage.run("text.txt", "wait")[0] == 0


def refusing(what: str) -> None:
    raise InputError(f"{what}: cannot be used")


def test_a_refused_command_can_be_repeated_in_the_same_process(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            command.run(refusing, ["this"])
        assert ended.value.code == 2
        assert capsys.readouterr().err.endswith(": this: cannot be used\n")


def filling_the_disk(what: str) -> None:
    raise OSError(errno.ENOSPC, what)


def test_a_full_disk_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run(filling_the_disk, ["No space left on device"])
    assert ended.value.code == 2
    assert "the disk is full" in capsys.readouterr().err
