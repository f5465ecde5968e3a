import json
from pathlib import Path

import pytest

from stages.core import command
from stages.instruments import keys, score


@pytest.fixture
def sheet(tmp_path: Path):
    def write(text: str) -> Path:
        file = tmp_path / "sheet.csv"
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def scored(in_root: None, capsys: pytest.CaptureFixture[str]):
    def run(instrument: str, answers: Path) -> dict[str, object]:
        command.run(score.main, ["--instrument", instrument, "--answers", str(answers)])
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def refusal(in_root: None, capsys: pytest.CaptureFixture[str]):
    def run(instrument: str, answers: Path) -> str:
        with pytest.raises(SystemExit) as end:
            command.run(score.main, ["--instrument", instrument, "--answers", str(answers)])
        assert end.value.code == 2
        return capsys.readouterr().err

    return run


def rows(answers: list[str]) -> str:
    return "\n".join(["answer", *answers]) + "\n"


def test_a_sheet_on_the_political_compass(scored, sheet) -> None:
    assert scored("political_compass", sheet(rows(["3"] * 62))) == {
        "instrument": "political_compass",
        "answered": 62,
        "skipped": 0,
        "economic": 0.01,
        "social": 4.36,
        "sets": {"a": {"economic": 0.01, "social": 4.36}, "b": {"economic": 0.0, "social": 4.36}},
    }


def test_numbers_and_letters_in_either_case_mean_the_same(scored, sheet) -> None:
    numbers = scored("political_compass", sheet(rows(["0", "1", "2", "3.0"] * 15 + ["0", "1"])))
    assert scored("political_compass", sheet(rows(["SD", "d", " A ", "sa"] * 15 + ["sd", "D"]))) == numbers


def test_numbers_mean_the_same_where_there_is_a_neutral_answer(scored, sheet) -> None:
    assert scored("8values", sheet(rows(["3"] * 70))) == scored("8values", sheet(rows(["SA"] * 70)))
    assert scored("8values", sheet(rows(["n"] * 70)))["govt"] == 50


def test_blank_lines_are_skipped_statements_and_those_at_the_end_do_no_harm(scored, sheet) -> None:
    found = scored("political_compass", sheet("answer\n" + "\n" * 61 + "2\n" + "\n\n"))
    assert (found["answered"], found["skipped"]) == (1, 61)
    assert found["social"] == 2.41


def test_a_last_statement_may_be_skipped(scored, sheet) -> None:
    found = scored("political_compass", sheet("answer\n" + "2\n" * 61 + "\n"))
    assert (found["answered"], found["skipped"]) == (61, 1)


def test_other_columns_and_blank_lines_beside_them_are_ignored(scored, sheet) -> None:
    table = sheet("\ufeffitem,Answer\r\n" + "\r\n".join(f"{i},{'' if i == 3 else 'A'}" for i in range(62)) + "\r\n\r\n")
    found = scored("political_compass", table)
    assert (found["answered"], found["skipped"]) == (61, 1)


def test_a_questionnaire_is_scored_by_the_path_of_its_file(scored, sheet) -> None:
    found = scored("prompts/instruments/compass.yaml", sheet(rows(["SA"] * 64)))
    assert found == {"instrument": "compass", "answered": 64, "skipped": 0, "economic": 0.0, "social": 0.0}


def test_an_axis_without_an_answer_is_left_out(scored, sheet) -> None:
    found = scored("compass", sheet(rows([""] * 64)))
    assert found == {"instrument": "compass", "answered": 0, "skipped": 64}


def test_a_wrong_number_of_rows_is_refused(refusal, sheet) -> None:
    assert "sheet.csv: has 61 rows, and The Political Compass has 62 statements" in refusal("political_compass", sheet(rows(["1"] * 61)))
    assert "sheet.csv: has 63 rows" in refusal("political_compass", sheet(rows(["1"] * 63)))


def test_an_unreadable_answer_is_refused_with_its_row_and_what_is_allowed(refusal, sheet) -> None:
    message = refusal("political_compass", sheet(rows(["1", "", "4"] + ["1"] * 59)))
    assert "sheet.csv: row 4: field answer: '4' is none of 0 to 3 or SD, D, A, SA" in message
    assert "row 2: field answer: 'N' is none of 0 to 3 or SD, D, A, SA" in refusal("political_compass", sheet(rows(["N"] + ["1"] * 61)))


def test_a_missing_column_is_named(refusal, sheet) -> None:
    assert "sheet.csv: column answer is missing. The file has: item, reply" in refusal("compass", sheet("item,reply\n1,2\n"))


def test_a_row_that_ends_before_the_answer_is_refused(refusal, sheet) -> None:
    assert "row 3: field answer: the row ends before it" in refusal("compass", sheet("item,answer\n1,2\n2\n"))


def test_a_missing_sheet_and_one_that_is_no_text_are_refused(refusal, tmp_path: Path) -> None:
    assert "none.csv: there is no such file" in refusal("compass", tmp_path / "none.csv")
    binary = tmp_path / "sheet.xlsx"
    binary.write_bytes(b"PK\x03\x04\xff\xfe")
    assert "sheet.xlsx: is not readable as CSV" in refusal("compass", binary)


def test_an_unknown_instrument_is_refused_with_those_that_there_are(refusal, sheet) -> None:
    assert "There are: 8values, compass, political_compass" in refusal("horoscope", sheet(rows(["1"])))


def test_both_options_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.run(score.main, ["--instrument", "compass"])
    assert "--answers" in capsys.readouterr().err


def test_every_key_scores_an_empty_sheet(in_root: None, tmp_path: Path) -> None:
    for name in ("political_compass", "8values", "compass"):
        key = keys.load(name)
        file = tmp_path / f"{name}.csv"
        file.write_text("answer\n" + "\n" * len(key.items))
        assert score.figures(key, score.read_sheet(file, key))["answered"] == 0
