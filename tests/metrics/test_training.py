import json
import math
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.metrics import training

STEP = {"loss": 0.5, "learning_rate": 1e-3, "gradient_norm": 2.0}
PAIRS = {"accuracy": 0.75, "margin": 0.2}
HELD_OUT = {"held_out_loss": 0.4, "held_out_accuracy": 0.8, "held_out_margin": 0.3, "held_out_pairs": 10}


def write_log(folder: Path, *lines: dict[str, float]) -> None:
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps({"step": i, "tokens_seen": 100 * i, **line}) + "\n" for i, line in enumerate(lines, 1)))


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("leanings: [left]\nsft: {datasets: [posts]}\n")
    write_log(tmp_path / "adapters/left-posts", STEP, STEP | {"held_out_loss": 0.6})
    write_log(tmp_path / "adapters/left-preference", STEP | PAIRS, STEP | PAIRS | HELD_OUT)
    write_log(tmp_path / "adapters/right-posts", STEP)  # of an earlier study
    return tmp_path / "adapters"


def run(adapters: Path) -> tuple[dict[str, dict[str, float]], list[list[str]]]:
    training.main(adapters, adapters.parent / "training.json", adapters.parent / "training.csv")
    rows = [line.split(",") for line in (adapters.parent / "training.csv").read_text().splitlines()]
    return json.loads((adapters.parent / "training.json").read_text()), rows


def test_every_step_of_the_listed_adapters_is_a_row(adapters: Path) -> None:
    _, (header, *rows) = run(adapters)
    assert [row[:2] for row in rows] == [["left-posts", "1"], ["left-posts", "2"], ["left-preference", "1"], ["left-preference", "2"]]
    by_name = [dict(zip(header, row, strict=True)) for row in rows]
    assert by_name[0]["held_out_loss"] == "" and by_name[0]["margin"] == ""
    assert by_name[1]["held_out_loss"] == "0.6"
    assert (by_name[3]["accuracy"], by_name[3]["margin"], by_name[3]["held_out_accuracy"]) == ("0.75", "0.2", "0.8")


def test_accuracy_on_held_out_pairs_comes_with_its_interval(adapters: Path) -> None:
    found, _ = run(adapters)
    # Wilson: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    p, n, z = 0.8, 10, 1.959964
    middle, half, scale = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)), 1 + z**2 / n
    expected = {"value": p, "low": (middle - half) / scale, "high": (middle + half) / scale, "n": n}
    assert found["left-preference"]["held_out_accuracy"] == pytest.approx(expected, rel=1e-5)
    assert found["left-posts"] == {"steps": 2, "tokens_seen": 200, "loss": 0.5, "held_out_loss": 0.6}


@pytest.mark.parametrize("content", [None, "", '{"step": 1'])
def test_a_log_that_cannot_be_read_is_named(adapters: Path, content: str | None) -> None:
    file = adapters / "left-posts/log.jsonl"
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=r"left-posts/log\.jsonl: .*dvc repro -f` for left-posts"):
        run(adapters)
