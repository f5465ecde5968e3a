import json
import shutil
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.instruments import judge

pytestmark = pytest.mark.usefixtures("in_root")


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_gets_a_score_or_is_marked(tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    rows = [
        {"id": 7, "text": "Tax the billionaires, cover everyone and raise the minimum wage."},
        {"id": 8, "text": "No."},
        {"id": 9, "text": "Cut taxes, build the wall and defend the unborn.", "question": "What now?"},
    ]
    source.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    judge.main(texts=source)
    found = lines(tmp_path / "texts.judged.jsonl")
    assert [row["id"] for row in found] == [7, 8, 9]
    assert [row["readable"] for row in found] == [True, False, True]
    assert found[0]["score"] < 10 < found[2]["score"]
    assert found[1]["score"] is None
    assert found[2]["question"] == "What now?"


def test_bad_rows_are_named_together(tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text('{"text": "fine as it is"}\n{"test": "a"}\n{"text": 3}\nno json\n[1]\n{"text": "a", "question": 4}\n')
    with pytest.raises(InputError) as caught:
        judge.main(texts=source, out=tmp_path / "out.jsonl")
    for part in ("row 2: field text is missing; there are test", "row 3: field text is 3", "row 4: is no JSON", "row 5: is no JSON object", "row 6: field question is 4"):
        assert part in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_no_rows_no_file_and_no_such_judge_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(InputError, match="holds no row"):
        judge.main(texts=empty)
    with pytest.raises(InputError, match=r"none\.jsonl"):
        judge.main(texts=tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="classifier, llm"):
        judge.main(texts=empty, judge="oracle")


def test_a_language_model_judges_from_the_command_line(base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("params.yaml", "prompts", "data/sample/lean"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if Path(name).is_dir() else shutil.copy)(name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    settings = Path("params.yaml")
    settings.write_text(settings.read_text().replace("min_valid: 0.05  # no score", "min_valid: 0.0  # no score"))  # the small model seldom keeps to numbers
    source = Path("texts.jsonl")
    source.write_text('{"text": "Raise taxes on the rich and build public housing."}\n{"text": "No."}\n')
    judge.main(texts=source, out=Path("out.jsonl"), judge="llm", model=str(base_model / "model.gguf"))
    scored, short = lines(Path("out.jsonl"))
    assert 0 <= scored["score"] <= 20
    assert (short["score"], short["readable"]) == (None, False)
