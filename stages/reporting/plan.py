"""`dvc repro` that says first what it will run and how long each part took last time. Arguments go to `dvc repro`.

Times are kept in .plumbline/durations.json; before the first run those in benchmarks/durations.json stand in, which were taken on two slow cores.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.core.files import replacing
from stages.core.workspace import state_folder
from stages.reporting.pull_request import grouped, pending

LOCK = Path("dvc.lock")
COMMITTED = Path("benchmarks/durations.json")
FULL = 0.5  # GB: with less left, a failure is probably due to it


def durations(file: Path) -> dict[str, float]:
    """Seconds a stage (with its item) took last time."""
    kept = COMMITTED if not file.exists() else file
    return dict(json.loads(kept.read_text(encoding="utf-8"))) if kept.exists() else {}


def planned(dry: str, lock: str) -> list[str]:
    """The stages that `dvc repro --dry` names, and those that depended on them in the last run (text of ``dvc.lock``)."""
    named = [line.split("'")[1] for line in dry.splitlines() if line.startswith("Running stage '")]
    return pending({name: ["changed command"] for name in named}, lock)


def minutes(seconds: float) -> str:
    """A duration as people say it."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def announcement(stages: Sequence[str], known: Mapping[str, float]) -> str:
    """What is going to run, with times by the stage's name."""
    if not stages:
        return "Nothing has changed: no stage has to run."
    groups: dict[str, list[str]] = {}
    for name in stages:
        groups.setdefault(name.split("@")[0], []).append(name)
    lines = [f"To run: {len(stages)} stages, unless a stage before them gives the same result as last time."]
    for kind, names in groups.items():
        times = [known[name] for name in names if name in known]
        lines.append(f"  {kind:14} {minutes(sum(times)) if times else 'time not known yet':>8}  {grouped(names).replace('`', '')}")
    total = sum(known.get(name, 0.0) for name in stages)
    return "\n".join([*lines, f"  {'in all':14} {minutes(total):>8}, by the last run or the one in the repository"])


def follow(arguments: Sequence[str], times: dict[str, float]) -> int:
    """Run `dvc repro`, print what it prints, and note each stage's time; its exit code."""
    stage, start = "", time.monotonic()
    with subprocess.Popen(["dvc", "repro", *arguments], stdout=subprocess.PIPE, text=True) as process:  # standard error stays a terminal, for progress
        assert process.stdout
        for line in process.stdout:
            if stage and line.startswith(("Running stage '", "Stage '", "Updating lock file")):
                times[stage], stage = round(time.monotonic() - start, 1), ""
            if line.startswith("Running stage '"):
                stage, start = line.split("'")[1], time.monotonic()
            print(line, end="", flush=True)
    if stage and process.returncode == 0:
        times[stage] = round(time.monotonic() - start, 1)
    return process.returncode


def main(arguments: Sequence[str]) -> int:
    """Announce, run, keep the times; the exit code."""
    file = state_folder("runs") / "durations.json"
    known = durations(file)
    dry = subprocess.run(["dvc", "repro", "--dry", *arguments], capture_output=True, text=True, check=False)
    if dry.returncode == 0:
        print(announcement(planned(dry.stdout, LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""), known), flush=True)
    times: dict[str, float] = {}
    code = follow(arguments, times)
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(known | times, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for name, seconds in times.items():
        print(f"{name:28} {seconds:7.1f} s")
    free = shutil.disk_usage(".").free / 1e9
    if code and free < FULL:
        print(f"Only {free:.1f} GB are free here. `dvc gc -w` deletes old results, `python -m stages.llm.cache_tool prune` old answers.", file=sys.stderr)
    return code


if __name__ == "__main__":
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        sys.exit(0)
    sys.exit(main(sys.argv[1:]))
