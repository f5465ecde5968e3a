from pathlib import Path

import pytest

from stages.core import tables
from stages.core.errors import InputError
from stages.metrics.usage import Price, figures, total

ORIGIN = {"model": "m", "prompt": "p", "answers": 4, "prompt_tokens": 2_000_000, "completion_tokens": 500_000, "cut": 1}
ROW = {"id": "a", "post_id": "b", "instruction": "c", "response": "d"}


def test_figures_are_those_of_the_table_with_what_was_put_aside(tmp_path: Path) -> None:
    tables.write(tmp_path / "left.parquet", [ROW], tables.INSTRUCTIONS, ORIGIN)
    tables.write(tmp_path / "rejected" / "left.parquet", [ROW | {"reason": "empty"}] * 3, tables.rejects(tables.INSTRUCTIONS))
    assert figures(tmp_path / "left.parquet", None) == {"answers": 4, "prompt_tokens": 2_000_000, "completion_tokens": 500_000, "cut": 1, "refused": 3}


def test_the_cost_is_tokens_times_price(tmp_path: Path) -> None:
    tables.write(tmp_path / "left.parquet", [ROW], tables.INSTRUCTIONS, ORIGIN)
    assert figures(tmp_path / "left.parquet", Price(prompt=0.15, completion=0.6))["cost"] == pytest.approx(2 * 0.15 + 0.5 * 0.6)


def test_a_table_of_unknown_origin_is_refused(tmp_path: Path) -> None:
    tables.write(tmp_path / "left.parquet", [ROW], tables.INSTRUCTIONS)
    with pytest.raises(InputError, match=r"left\.parquet.*answers"):
        figures(tmp_path / "left.parquet", None)


def test_the_total_adds_what_there_is() -> None:
    assert total([{"answers": 1, "refused": 2}, {"answers": 3, "cost": 0.5}]) == {"answers": 4, "refused": 2, "cost": 0.5}
