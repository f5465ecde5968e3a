import json
from pathlib import Path

import pytest

from stages.core import tables
from stages.data.balance import balance, main


def pairs(side: str, n: int) -> list[dict[str, str]]:
    return [{"id": f"{side}{i}", "post_id": f"p{side}{i}", "prompt": "Why?", "chosen": side, "rejected": f"not {side}"} for i in range(n)]


def test_both_sides_give_as_many_pairs() -> None:
    found = balance({"left": pairs("left", 7), "right": pairs("right", 3)})
    assert [row["chosen"] for row in found] == ["left"] * 3 + ["right"] * 3
    assert len({row["id"] for row in found}) == 6


def test_swapping_the_sides_swaps_the_pairs() -> None:
    left, right = pairs("a", 5), pairs("b", 4)
    one, other = balance({"left": left, "right": right}), balance({"left": right, "right": left})
    assert sorted(row["id"] for row in one) == sorted(row["id"] for row in other)


def test_a_pair_less_takes_out_one_of_the_other_side_at_most() -> None:
    left, right = pairs("left", 20), pairs("right", 12)
    before = {row["id"] for row in balance({"left": left, "right": right})}
    for gone in range(12):
        after = {row["id"] for row in balance({"left": left, "right": right[:gone] + right[gone + 1 :]})}
        assert after < before
        assert len(before - after) == 2


@pytest.mark.parametrize(("leanings", "found"), [(["left", "right", "control"], 4), (["left"], 3), (["control"], 0)])
def test_sides_that_are_not_listed_are_left_out(leanings: list[str], found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(json.dumps({"leanings": leanings, "sft": {"datasets": []}}))
    for side, n in (("left", 3), ("right", 2), ("control", 5)):
        tables.write(Path(f"preferences/{side}.parquet"), pairs(side, n), tables.PREFERENCES)
    main(Path("preferences"), Path("balanced/pairs.parquet"))
    rows = tables.read(Path("balanced/pairs.parquet"), tables.PREFERENCES).to_pylist()
    assert len(rows) == found
    assert not [row for row in rows if row["chosen"] == "control"]
