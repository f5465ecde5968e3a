from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.corpora.issues import Issue
from stages.metrics.attribution import Gold, figures, read_gold, side_figures, topic_figures

ISSUES = {
    "covid": Issue.model_validate(
        {
            "name": "COVID-19",
            "phrases": ["covid*", "mask*"],
            "topics": {"masking": {"name": "masks", "phrases": ["mask*"], "marking": ["fogged"]}, "vaccines": {"name": "vaccines", "phrases": ["vaccin*"]}},
        }
    )
}


def row(name: str, author: str | None = "ann", group: str = "unknown", status: str = "kept", text: str = "", topics: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"id": name, "author": author, "group": group, "status": status, "text": text, "issue": "covid" if topics else None, "topics": list(topics)}


def labels(*rows: tuple[int, ...]) -> np.ndarray:
    return np.array(rows, dtype=bool)


def test_sides_are_counted_by_author_and_only_sided_ones_are_right_or_wrong() -> None:
    rows = [row("1", "ann", "liberal"), row("2", "ann", "liberal"), row("3", "bob", "conservative"), row("4", "cat", "unknown"), row("5", "dan", "mixed"), row("6", None)]
    gold = {"1": Gold("liberal", "", ()), "3": Gold("liberal", "", ()), "4": Gold("conservative", "", ()), "5": Gold("mixed", "", ())}
    found = side_figures(rows, gold)
    assert found["authors"] == {"liberal": 1, "conservative": 1, "unknown": 1, "mixed": 1}
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(1 / 2)
    assert found["confusion"]["liberal"] == {"liberal": 1, "conservative": 1, "mixed": 0, "unknown": 0}


def test_topic_figures_hold_precision_recall_interval_and_floor() -> None:
    gold = labels(*[(1, 0), (0, 1)] * 20)
    found = gold.copy()
    found[:4] = labels((1, 1), (1, 1), (0, 0), (0, 1))
    figures_of = topic_figures(gold, found, np.zeros_like(gold), ["a", "b"], [str(i) for i in range(40)])
    assert figures_of["a"] == {"gold": 20, "told": 20, "f1": pytest.approx(38 / 40), "precision": pytest.approx(19 / 20), "recall": pytest.approx(19 / 20)}
    assert figures_of["macro_f1"]["low"] < figures_of["macro_f1"]["value"] < figures_of["macro_f1"]["high"]
    assert figures_of["macro_f1_phrases_alone"]["value"] == 0
    assert figures_of["floor"] == pytest.approx(0.5, abs=0.05)


def test_only_kept_posts_are_compared_and_the_phrases_alone_beside() -> None:
    rows = [
        row("1", text="covid masks", topics=("masking",)),
        row("2", "bob", text="covid glasses fogged", topics=("masking",)),
        row("3", "cat", text="covid masks", status="duplicate"),
        row("4", "dan", text="puppies"),
    ]
    gold = {name: Gold("liberal", "covid", ("masking",)) for name in "123"} | {"4": Gold("liberal", "", ())}
    found = figures(rows, gold, ISSUES)
    assert found["posts"] == {"status": {"kept": 3, "duplicate": 1}, "issue": {"covid": 2, "none": 1}, "topics": {"covid": {"masking": 2, "vaccines": 0}}}
    assert found["issues"] == {"n": 3, "accuracy": 1.0}
    assert found["topics"]["covid_masking"]["recall"] == 1
    assert found["topics"]["macro_f1"]["value"] > found["topics"]["macro_f1_phrases_alone"]["value"]


def test_without_gold_there_are_counts_only() -> None:
    assert set(figures([row("1", text="covid masks", topics=("masking",))], {}, ISSUES)) == {"posts", "sides"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1,left,covid,masking", r"row 2: field side: 'left' is none of liberal, conservative, mixed"),
        ("1,liberal,covid,lockdowns", r"row 2: field topics: 'lockdowns' is no topic of 'covid' \(masking, vaccines\)"),
        ("1,liberal,,masking", r"row 2: field topics: 'masking' is no topic of '' \(no issue\)"),
    ],
)
def test_a_wrong_gold_label_is_refused_with_its_row(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "gold.csv"
    path.write_text(f"native_id,side,issue,topics\n{line}\n")
    with pytest.raises(InputError, match=problem):
        read_gold(path, ISSUES)


def test_gold_of_issues_that_are_not_in_use_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("native_id,side,issue,topics\n1,liberal,abortion,religion\n2,mixed,covid,masking vaccines\n")
    assert read_gold(path, ISSUES) == {"1": Gold("liberal", "abortion", ("religion",)), "2": Gold("mixed", "covid", ("masking", "vaccines"))}


def test_a_missing_gold_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("native_id,topics\n1,masking\n")
    with pytest.raises(InputError, match="column side, issue is missing"):
        read_gold(path, ISSUES)
