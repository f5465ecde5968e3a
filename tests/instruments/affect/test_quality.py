from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.instruments.affect.quality import against_gold, read_gold


def test_labels_are_compared_where_there_is_gold() -> None:
    gold = {"1": {"joy"}, "2": {"joy", "fear"}, "3": set(), "9": {"joy"}}
    told = {name: np.array(row, dtype=bool) for name, row in {"1": (1, 0), "2": (0, 1), "3": (1, 0), "4": (1, 1)}.items()}
    found = against_gold(gold, told, ("joy", "fear"), 1)
    # joy: 1 both, 2 gold, 2 told, so 1/2; fear: 1 of 1.
    assert found["joy"] == {"gold": 2, "told": 2, "f1": pytest.approx(1 / 2)}
    assert found["fear"] == {"gold": 1, "told": 1, "f1": 1}
    assert (found["n"], found["labelled"]) == (3, 1)
    assert found["macro_f1"]["value"] == pytest.approx(3 / 4)
    assert found["floor"] < 3 / 4


def test_a_corpus_without_gold_posts_has_no_quality() -> None:
    assert against_gold({"1": {"joy"}}, {}, ("joy",), 1) == {"n": 0}


def test_gold_is_read_and_wrong_labels_are_refused_with_their_row(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("native_id,emotions,morals\n1,joy fear,care\n2,,\n")
    assert read_gold(path) == {"1": {"emotion": {"joy", "fear"}, "moral": {"care"}}, "2": {"emotion": frozenset(), "moral": frozenset()}}
    path.write_text("native_id,emotions,morals\n1,joy,\n2,glee,\n")
    with pytest.raises(InputError, match="row 3: field emotions: 'glee' is none of anger"):
        read_gold(path)


def test_the_samples_gold_is_usable() -> None:
    gold = read_gold(Path(__file__).parents[3] / "data/sample/discourse/gold.csv")
    assert len(gold) > 400
