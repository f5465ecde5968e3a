"""What each term of the opinion study's loss buys and costs: ``python -m benchmarks.ablation``, with names of arms to run these alone.

Every arm is one ``dvc exp run -S … opinion`` in a clone of the last commit, which shares the cache of results and answers with this repository. All arms have
the same budget, smaller than the default. Writes docs/ablation.json and, made from it, docs/ablation.md, after every arm; arms that are not run keep their figures.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core.results import six_digits
from stages.core.workspace import state_folder

BUDGET = ("simulate.steps=30", "simulate.checkpoint_every=30", "opinion.respondents=80", "opinion.min_group=15")
DEFAULT, FOREST = "default", "random forest"
ARMS: dict[str, tuple[str, ...]] = {
    DEFAULT: (),
    "α = 0": ("simulate.alpha=0",),
    "β = 0": ("simulate.beta=0",),
    "γ = .001": ("simulate.gamma=0.001",),
    "γ = .5": ("simulate.gamma=0.5",),
    "SMOTE-NC": ("interview.balance.active=true",),
}
MEASURES = {
    "kl": "KL",
    "kl_groups": "KL, subgroups",
    "worst": "KL, worst subgroup",
    "log_loss": "log loss",
    "parity_gap": "parity gap",
    "signs": "signs",
    "valid": "options given",
    "read": "ideology read",
}
DOCS = Path("docs")


def changes(arm: str) -> list[str]:
    """What ``dvc exp run`` sets for an arm."""
    return [word for change in (*BUDGET, *ARMS[arm]) for word in ("-S", change)]


def figures(metrics: Mapping[str, Any], log: Sequence[Mapping[str, float]], model: str) -> dict[str, float]:
    """The figures of a model on held-out respondents, from metrics/opinion.json and the lines of models/opinion/log.jsonl."""
    own = metrics[model]["respondents"]
    found = {name: own[name]["value"] for name in ("kl", "kl_groups", "parity_gap")} | {"worst": own["worst_group"]["kl"], "log_loss": own["log_loss"]}
    found |= {"signs": own["sign_agreement"]["share"]} if "sign_agreement" in own else {}
    found |= {"valid": metrics["valid"][model]} if model in metrics["valid"] else {}
    found |= {"read": log[-1]["held_out_read"]} if log and "held_out_read" in log[-1] else {}
    return {name: six_digits(value) for name, value in found.items()}


def page(found: Mapping[str, Any]) -> str:
    """docs/ablation.md."""
    budget = ", ".join(f"`{one}`" for one in found["budget"])
    lines = [
        "# What each term of the loss buys",
        "",
        f"Made by `python -m benchmarks.ablation` from `dvc exp run -S` alone. Every arm has the same budget, smaller than the default: {budget}.",
        "Figures are those of the tuned model on held-out respondents; the last row is the random forest. One run each: small differences mean nothing.",
        "",
        "| arm | change | " + " | ".join(MEASURES.values()) + " |",
        "|---|---|" + "---|" * len(MEASURES),
    ]
    for name, arm in found["arms"].items():
        cells = [f"{arm['figures'][key]:.3f}" if key in arm["figures"] else "–" for key in MEASURES]
        lines.append(f"| {name} | {', '.join(f'`{one}`' for one in arm['changes']) or '–'} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *EXPLANATION, ""])


EXPLANATION = (
    "- KL, worst subgroup and log loss: lower is nearer. Parity gap: how much wider groups lie apart than they do, below 0 flattened. Signs: share of clear regression",
    "  coefficients with the right sign. Options given: probability of answering with any option.",
    "- Ideology read: how often the adversary tells an ideology that the persona does not state, of respondents kept from training. With γ = .001 it only watches.",
    "- α acts on options given too: without it the model is not tuned to answer at all. [Bring your survey](survey.md) has the equations.",
)


def run(arm: str, folder: Path) -> dict[str, Any]:
    """One experiment in the clone ``folder``; its figures, and those of the random forest, which no arm changes unless it changes the interviews."""
    subprocess.run(["git", "checkout", "-q", "--", "."], cwd=folder, check=True)
    subprocess.run(["dvc", "exp", "run", *changes(arm), "opinion"], cwd=folder, check=True, stdout=sys.stderr)
    metrics = json.loads((folder / "metrics/opinion.json").read_text())
    log = [json.loads(line) for line in (folder / "models/opinion/log.jsonl").read_text().splitlines()]
    return {"tuned": figures(metrics, log, "tuned"), "forest": figures(metrics, [], "forest")}


def main(names: Sequence[str]) -> None:
    """Run the arms of these ``names``."""
    cache = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    os.environ["PLUMBLINE_STATE"] = str(state_folder("training").parent)
    file = DOCS / "ablation.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    arms = before["arms"] if before.get("budget") == list(BUDGET) else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "-q", ".", str(folder)], check=True)
        subprocess.run(["dvc", "cache", "dir", "--local", str(Path(cache).absolute())], cwd=folder, check=True)
        for arm in names:
            done = run(arm, folder)
            arms[arm] = {"changes": list(ARMS[arm]), "figures": done["tuned"]}
            if arm == DEFAULT:
                arms[FOREST] = {"changes": [], "figures": done["forest"]}
            found = {"budget": list(BUDGET), "arms": {name: arms[name] for name in (*ARMS, FOREST) if name in arms}}
            file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            (DOCS / "ablation.md").write_text(page(found), encoding="utf-8")
            print(json.dumps({arm: done}, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(ARMS))
