"""The plots of two revisions side by side as SVG files, without a network.

DVC fills its plots' templates (.dvc/plots) with the tables of both revisions, and vl-convert draws them. BEFORE and AFTER are as for
`python -m stages.reporting.pull_request`; FOLDER takes one file a table.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import vl_convert

from stages.core import command
from stages.core.errors import InputError
from stages.core.files import replacing
from stages.reporting.revisions import parting


def specifications(before: str, after: str) -> dict[str, list[dict[str, Any]]]:
    """Filled Vega-Lite templates by the path of their table.

    :raises InputError: with DVC's words, if it cannot read the plots.
    """
    revisions = [before] if after == "workspace" else [before, after]
    done = subprocess.run(["dvc", "plots", "diff", *revisions, "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"`dvc plots diff {' '.join(revisions)}` failed: {done.stderr.strip()}")
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout or "{}").get("data", {})
    return found


def main(before: str, after: str, folder: Path) -> None:
    """Draw every table that either revision has."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for path, plots in specifications(parting(before), after).items():
        for i, plot in enumerate(plots):
            if plot.get("type") == "vega":
                name = path.replace("\\", "/").split("::")[-1].removeprefix("metrics/plots/").replace("/", "-").removesuffix(".csv")
                with replacing(folder / f"{name}{f'-{i + 1}' if i else ''}.svg") as temporary:
                    temporary.write_text(vl_convert.vegalite_to_svg(plot["content"]), encoding="utf-8")


if __name__ == "__main__":
    command.run(main)
