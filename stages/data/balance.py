"""Both sides' pairs in equal number: what tunes a model towards the centre.

in   data/preferences/<left|right>.parquet, as far as `leanings` lists them
out  data/balanced/pairs.parquet: id, post_id, prompt, chosen, rejected

A pair holds an answer of each side to one question, and as many questions come from posts of one side as of the other. So both sides' answers, and
questions of either side's making, weigh the same. Which pairs of the larger set stay is told by their ids, so a pair that is added or taken out moves one
other at most.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import command, params, tables
from stages.core.files import short_hash

SIDES = ("left", "right")


def balance(pairs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of ``data/balanced`` from the pairs of each side."""
    n = min(map(len, pairs.values()), default=0)
    kept = [row for rows in pairs.values() for row in sorted(rows, key=lambda row: short_hash("balance", row["id"]))[:n]]
    return [{**row, "id": short_hash("balance", row["id"])} for row in kept]


def main(preferences: Path, target: Path) -> None:
    """Write the pairs."""
    study = params.load_study()
    pairs = {side: tables.read(preferences / f"{side}.parquet", tables.PREFERENCES).to_pylist() for side in SIDES if side in study.leanings}
    rows = balance(pairs)
    tables.write(target, rows, tables.PREFERENCES)
    print(f"balance: {len(rows)} pairs of " + ", ".join(f"{len(found)} {side}" for side, found in pairs.items()), file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
