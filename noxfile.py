"""Sessions share one environment, ``.venv``, made from the dependency groups of ``pyproject.toml``; what is compared with has another, ``.nox/peers``."""

import hashlib
import itertools
import os
import shutil
import sys
import sysconfig
import time
from pathlib import Path

import nox
import nox.command

ROOT = Path(__file__).parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if sys.platform == "win32" else "bin")
ROOM = 8  # GB
GROUPS = ("run", "test", "lint")
PEERS = ROOT / ".nox" / "peers"
WITHOUT_AMX = "-DCMAKE_C_FLAGS=-U__AMX_INT8__ -DCMAKE_CXX_FLAGS=-U__AMX_INT8__"
"How llama.cpp is compiled: its code for AMX ends in an illegal instruction when GCC compiled it (ggml-org/llama.cpp, pull request 26954)."
WORKERS = ("--numprocesses=logical", "--maxprocesses=4", "--dist=loadfile", "--no-loadscope-reorder")
"Tests run in processes, each with cores of its own and 2 GB of memory at most; what takes longest begins first, see ``tests/conftest.py``."
FEATURES = "import llama_cpp; print(llama_cpp.llama_print_system_info().decode())"

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "none"
nox.needs_version = ">=2025.5"


def environment(session: nox.Session, venv: Path = VENV, groups: tuple[str, ...] = GROUPS) -> None:
    """Make or renew ``venv``; nothing happens while the dependencies stay the same."""
    check_tools(session)
    requirements = nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), *groups)
    stamp, digest = venv / "plumbline.stamp", hashlib.sha256(f"{sys.version} {requirements} {WITHOUT_AMX}".encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < ROOM:
        session.error(f"{free:.1f} GB are free in {ROOT}, and the environment and the default run take about {ROOM}. Make room, or clone to another disk.")
    compiled = " llama-cpp-python is compiled once, which takes about 4 minutes and prints nothing meanwhile." if "run" in groups else ""
    session.log(f"Making the environment in {venv.relative_to(ROOT)}.{compiled}")
    start = time.monotonic()
    python = str(venv / BIN.name / "python")
    if not Path(python).exists():
        session.run(sys.executable, "-m", "venv", str(venv), external=True)
    try:
        session.run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip", external=True)
        options = {"CMAKE_ARGS": f"{WITHOUT_AMX} {os.environ.get('CMAKE_ARGS', '')}"}
        session.run(python, "-m", "pip", "install", "--quiet", *requirements, external=True, env=options)
        if "run" in groups and "AMX_INT8 = 1" in str(session.run(python, "-c", FEATURES, external=True, silent=True)):  # a wheel that pip had compiled before
            again = [requirement for requirement in requirements if requirement.startswith("llama-cpp-python")]
            session.run(python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", "--no-cache-dir", *again, external=True, env=options)
    except nox.command.CommandFailed:
        session.error("pip could not install what is needed: see its message above. Without a network, or behind a proxy, set PIP_INDEX_URL or PIP_PROXY; then repeat.")
    stamp.write_text(digest)
    session.log(f"The environment is ready after {time.monotonic() - start:.0f} s.")


def check_tools(session: nox.Session) -> None:
    """End with what to do if something is missing that pip cannot install."""
    if sys.version_info < (3, 11):  # noqa: UP036  # nox itself may run on an older Python
        session.error(f"Plumbline needs Python 3.11 or later; this is {sys.version.split()[0]}. Run nox with a newer one.")
    if not shutil.which("git"):
        session.error("git is missing, and DVC works on git repositories. Install it, for example with `apt install git`.")
    compiler = (sysconfig.get_config_var("CXX") or "c++").split()[0]
    if not any(shutil.which(name) for name in (compiler, "c++", "g++", "clang++")):
        session.error("A C++ compiler is missing, and llama-cpp-python is compiled here. Install one, for example with `apt install build-essential`.")


def peer_environment(session: nox.Session) -> str:
    """Make or renew both environments, ours and the one with TRL and PEFT; returns the Python of the second."""
    environment(session)
    environment(session, PEERS, ("peers",))
    return str(PEERS / BIN.name / "python")


def run(session: nox.Session, *command: str, **variables: str) -> None:
    """Run a command of the environment, with the environment's own programs first on the path."""
    path = f"{BIN}:{os.environ['PATH']}"
    session.run(str(BIN / command[0]), *command[1:], external=True, env={"PATH": path, "VIRTUAL_ENV": str(VENV), **variables})


@nox.session
def repro(session: nox.Session) -> None:
    """Say what will run and how long it takes, then run the graph: whatever its inputs, parameters, prompts or code ask for. Arguments go to ``dvc repro``."""
    environment(session)
    run(session, "python", "-m", "stages.reporting.plan", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, a file per core at a time. Arguments go to pytest: ``nox -s tests -- -m 'not graph'`` leaves out whole graphs, ``-n 0`` keeps to one process."""
    environment(session)
    run(session, "python", "-m", "pytest", *WORKERS, *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """Compare losses, gradients and adapters with TRL and PEFT, which get an environment of their own. Arguments go to pytest."""
    run(session, "python", "-m", "pytest", "tests/peers", *session.posargs, PLUMBLINE_PEER_PYTHON=peer_environment(session))


@nox.session
def benchmark_training(session: nox.Session) -> None:
    """Measure training beside TRL and PEFT; takes half an hour on two cores. Arguments: ``-- --rounds 1 --tasks sft``."""
    peer = peer_environment(session)
    run(session, "python", "-m", "benchmarks.training", peer, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    environment(session)
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    run(session, "mypy")


@nox.session
def pr_report(session: nox.Session) -> None:
    """Say in pr_report/report.md what this branch changes against a commit (``nox -s pr_report -- origin/main``), or what one commit changes against another."""
    commits = list(itertools.takewhile(lambda argument: not argument.startswith("-"), session.posargs))
    before, after = [*(commits or ["origin/main"]), "workspace"][:2]
    environment(session)
    drawing = nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), "pictures")
    run(session, "python", "-m", "pip", "install", "--quiet", *drawing)
    run(session, "python", "-m", "stages.reporting.pictures", before, after, "pr_report")
    run(session, "python", "-m", "stages.reporting.pull_request", before, after, "pr_report", *session.posargs[len(commits) :])


@nox.session
def dev(session: nox.Session) -> None:
    """Make the environment ready to activate."""
    environment(session)
    session.log(f"Activate it with: source {BIN.relative_to(ROOT)}/activate")
