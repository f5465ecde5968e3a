import json
from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.instruments.affect.classifier import EMOTIONS, MORALS
from stages.instruments.affect.lexicon import load

LABELS = ("joy", "fear")
TEXTS = ["So HAPPY, a happy day. Glad!", "They are afraid.", "The bus came."]
# Two different words of joy score 2/3, one of fear 1/2.
EXPECTED = [[2 / 3, 0], [0, 1 / 2], [0, 0]]


@pytest.fixture
def forms(tmp_path: Path) -> dict[str, Path]:
    contents = {
        "own.yaml": "joy: [happ*, glad]\nfear: [afraid]\ntrust: [trust*]\n",
        "nrc.txt": "happy\tjoy\t1\nhappy\tfear\t0\nglad\tjoy\t1\nglad\tpositive\t1\n\nafraid\tfear\t1\n",
        "words.json": json.dumps({"happy": ["joy", "positive"], "glad": ["joy"], "afraid": ["fear"]}),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    return {name: tmp_path / name for name in contents}


@pytest.mark.parametrize("name", ["own.yaml", "nrc.txt", "words.json"])
def test_different_words_are_counted_in_every_form(forms: dict[str, Path], name: str) -> None:
    found = load(forms[name], LABELS)
    assert found.labels == LABELS
    assert found.scores(TEXTS) == pytest.approx(np.array(EXPECTED))
    assert found.scores([]).shape == (0, 2)


@pytest.mark.parametrize("name", ["own.yaml", "nrc.txt", "words.json"])
def test_a_label_without_words_is_named(forms: dict[str, Path], name: str) -> None:
    with pytest.raises(InputError, match=r"has no word for love\. It has: fear, joy"):
        load(forms[name], (*LABELS, "love"))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.yaml", "joy: happy\n", "is no lexicon"),
        ("a.yaml", "joy: ['!']\n", "is no phrase"),
        ("a.txt", "happy\tjoy\t1\nglad joy 1\n", r"row 2: 'glad joy 1' is not word, label and 0 or 1"),
        ("a.json", "[1]", "is not readable as lists of labels by word"),
    ],
)
def test_a_broken_lexicon_is_refused_with_its_place(tmp_path: Path, name: str, content: str, problem: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=problem):
        load(tmp_path / name, LABELS)


def test_a_missing_word_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.txt: is not readable"):
        load(tmp_path / "nowhere.txt", LABELS)


@pytest.mark.parametrize(("name", "labels", "text", "expected"), [("emotions", EMOTIONS, "I am furious", "anger"), ("morals", MORALS, "They betrayed the people", "betrayal")])
def test_the_projects_own_lexicons_tell_all_labels(in_root: None, name: str, labels: tuple[str, ...], text: str, expected: str) -> None:
    found = load(Path(f"data/lexicons/{name}.yaml"), labels).scores([text])[0]
    assert [label for label, score in zip(labels, found, strict=True) if score] == [expected]
