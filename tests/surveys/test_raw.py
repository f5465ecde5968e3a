from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyreadstat
import pytest

from stages.core.errors import InputError
from stages.surveys.raw import read

FRAME = pd.DataFrame({"pidp": [10, 11, 12], "j_sex": [1, 2, -9], "j_income": [1200.5, -8, 3], "j_note": ['say "no"', "", "café"]})
CELLS = {"j_income": ["1200.5", "-8", "3"], "pidp": ["10", "11", "12"], "j_sex": ["1", "2", "-9"]}
LABELS = {"j_sex": {1: "male", 2: "female", -9: "missing"}}
Make = Callable[[Path], Path]


def tab(folder: Path) -> Path:
    path = folder / "j_indresp.tab"
    path.write_text("\t".join(FRAME) + "\n" + "".join("\t".join(map(str, row)) + "\n" for row in FRAME.itertuples(index=False)))
    return path


def comma(folder: Path) -> Path:
    FRAME.to_csv(folder / "j_indresp.csv", index=False)
    return folder / "j_indresp.csv"


def stata(folder: Path) -> Path:
    pyreadstat.write_dta(FRAME, str(folder / "j_indresp.dta"), variable_value_labels=LABELS)
    return folder / "j_indresp.dta"


def spss(folder: Path) -> Path:
    pyreadstat.write_sav(FRAME, str(folder / "j_indresp.sav"), variable_value_labels=LABELS)
    return folder / "j_indresp.sav"


def parquet(folder: Path) -> Path:
    FRAME.to_parquet(folder / "j_indresp.parquet")
    return folder / "j_indresp.parquet"


each_format = pytest.mark.parametrize("make", [tab, comma, stata, spss, parquet])


@each_format
def test_every_format_gives_the_same_cells(make: Make, tmp_path: Path) -> None:
    raw = read(make(tmp_path), ["j_income", "pidp", "j_sex"])
    assert raw.columns == CELLS
    assert list(raw.columns) == ["j_income", "pidp", "j_sex"]
    assert len(raw) == 3


@each_format
def test_a_missing_variable_is_named_with_one_that_is_near(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"variables that the file lacks: j_sexx \(perhaps j_sex\?\), colour\. It has: pidp, j_sex, j_income, j_note\. .*survey\.edition"):
        read(make(tmp_path), ["pidp", "j_sexx", "colour"])


@pytest.mark.parametrize(("make", "place"), [(tab, "tab: row 4"), (comma, "csv: row 4"), (stata, "dta: row 3"), (spss, "sav: row 3"), (parquet, "parquet: row 3")])
def test_rows_are_numbered_as_users_see_them(make: Make, place: str, tmp_path: Path) -> None:
    assert read(make(tmp_path), ["pidp"]).place(2) == f"{tmp_path}/j_indresp.{place}"


@pytest.mark.parametrize("make", [stata, spss])
def test_the_names_of_codes_are_kept(make: Make, tmp_path: Path) -> None:
    assert read(make(tmp_path), ["pidp", "j_sex"]).labels == {"j_sex": {"1": "male", "2": "female", "-9": "missing"}}


def test_values_that_spss_itself_declares_missing_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.sav"
    pyreadstat.write_sav(FRAME, str(path), missing_ranges={"j_sex": [{"lo": -9, "hi": -1}]})
    assert read(path, ["j_sex"]).columns == {"j_sex": ["1", "2", None]}


def test_empty_cells_of_every_kind_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.tab"
    path.write_text('pidp\ta\tb\n1\t\t"2"\n2\t \t""\n\n3\t4\t5\n')
    assert read(path, ["pidp", "a", "b"]).columns == {"pidp": ["1", "2", "3"], "a": [None, None, "4"], "b": ["2", None, "5"]}


def test_a_stray_quote_in_a_text_swallows_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.tab"
    path.write_text('pidp\tnote\n1\t"half a quote\n2\tnothing\n')
    assert read(path, ["pidp"]).columns == {"pidp": ["1", "2"]}


def test_a_text_that_is_not_utf_8_does_no_harm_in_a_column_that_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tab"
    path.write_bytes(b"pidp\tnote\n1\tcaf\xe9\n")
    assert read(path, ["pidp"]).columns == {"pidp": ["1"]}


@pytest.mark.parametrize(("name", "text"), [("x.tab", "pidp\ta\n1\t2\n3\n"), ("x.csv", "pidp,a\n1,2\n3\n"), ("x.csv", "pidp,a\n1,2\n3,4,5\n")])
def test_a_row_of_another_length_stops_with_its_number(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=rf"{name}: row 3: has [13] fields, the header 2"):
        read(tmp_path / name, ["pidp"])


def test_an_open_quote_stops(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('pidp,a\n1,"2\n3,4\n')
    with pytest.raises(InputError, match=r"x\.csv: line"):
        read(path, ["pidp"])


@pytest.mark.parametrize("make", [stata, spss, parquet])
def test_a_file_that_is_broken_off_stops(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"is n\S+ .*readable.*Fetch it again"):
        read(path, ["pidp"])


def test_a_header_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tab").write_text("pidp\ta\n")
    with pytest.raises(InputError, match="has no respondents"):
        read(tmp_path / "x.tab", ["pidp"])


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("pidp,a,a\n1,2,3\n")
    with pytest.raises(InputError, match="more than one column a"):
        read(tmp_path / "x.csv", ["a"])


def test_other_kinds_of_file_and_missing_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.tab: there is no such file\. Set survey\.file"):
        read(tmp_path / "x.tab", ["a"])
    (tmp_path / "x.xlsx").touch()
    with pytest.raises(InputError, match=r"survey data end in \.tab, \.tsv, \.csv, \.dta, \.sav, \.parquet, not in '\.xlsx'"):
        read(tmp_path / "x.xlsx", ["a"])
