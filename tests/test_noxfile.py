import shutil
from pathlib import Path

import llama_cpp
import pytest

import noxfile


class Ended(Exception):
    pass


class Session:
    def error(self, message: str) -> None:
        raise Ended(message)


def refusal() -> str:
    with pytest.raises(Ended) as ended:
        noxfile.check_tools(Session())
    return str(ended.value)


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noxfile.sys, "version_info", (3, 9))
    assert "needs Python 3.11" in refusal()


def test_a_machine_without_git_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal().startswith("git is missing")


def test_a_machine_without_a_compiler_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    git = shutil.which("git")
    assert git
    (tmp_path / "git").symlink_to(git)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "C++ compiler is missing" in refusal()


def test_llama_cpp_is_compiled_without_amx_in_which_it_crashes() -> None:
    assert "AMX_INT8 = 1" not in llama_cpp.llama_print_system_info().decode()
