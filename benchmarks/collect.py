"""Memory and speed of ``collect`` on a long dump: ``python -m benchmarks.collect 1000000``.

The dump is made from the sample's posts, each row with words of its own, so that duplicates have to be looked for among rows that differ.
The last line is JSON; ``share_of_limit`` is the peak memory as a share of the 1 GiB that a million posts may take.
"""

import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_MIB = 1024
SAMPLE = Path("data/sample/control/posts.jsonl")


def write_dump(path: Path, rows: int) -> None:
    """``rows`` posts as JSON Lines."""
    texts = [json.loads(line)["text"] for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    words = sorted({word for text in texts for word in text.split()})
    chance = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number, text in zip(range(rows), itertools.cycle(texts), strict=False):
            own = " ".join(chance.choices(words, k=12))
            file.write(json.dumps({"id": str(number), "author": str(chance.randrange(rows // 4 + 1)), "text": f"{text} {own}"}) + "\n")


def main() -> None:
    """Make a dump, collect it in a process of its own, and report."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        dump, target = Path(folder) / "posts.jsonl", Path(folder) / "posts.parquet"
        write_dump(dump, rows)
        program = (
            "import sys; from pathlib import Path; from stages import params; from stages.data import collect as stage; "
            "settings = params.load('collect', stage.Params); source = stage.Source(format='table', path=Path(sys.argv[1])); "
            "settings = settings.model_copy(update={'sources': {'dump': source}}); "
            "print(dict(stage.collect(stage.read('dump', settings), 'dump', settings, Path(sys.argv[2]))))"
        )
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program, str(dump), str(target)], check=True)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        json.dumps(
            {"name": "collect", "rows": rows, "rows_per_second": round(rows / seconds), "peak_mib": round(peak), "unit": "MiB", "share_of_limit": round(peak / LIMIT_MIB, 3)}
        )
    )


if __name__ == "__main__":
    main()
