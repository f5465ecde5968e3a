from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.surveys.codebook import Survey, load
from stages.surveys.raw import Raw
from stages.surveys.recoding import check_labels, describe_unknown, recode
from stages.surveys.variables import Banded, Coded

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wave10() -> Survey:
    return load(ROOT / "prompts/surveys/ukhls.yaml", "wave10")


def test_codes_become_labels_and_missing_ones_nothing(wave10: Survey) -> None:
    found = recode(["1", "2", "-9", None, "6", "7"], Coded(options={1: "yes", 2: "no"}, missing=(6,)), wave10.codebook)
    assert found.labels == ["yes", "no", None, None, None, None]
    assert found.unknown == [5]


def test_numbers_become_bands_and_what_lies_outside_is_unknown(wave10: Survey) -> None:
    found = recode(["16", "39.5", "40", "-7", None, "101", "old"], Banded(bands={"young": 16, "old": 40}, top=100), wave10.codebook)
    assert found.labels == ["young", "young", "old", None, None, None, None]
    assert found.numbers == [16, 39.5, 40, None, None, None, None]
    assert found.unknown == [5, 6]


def labelled(**labels: dict[str, str]) -> Raw:
    return Raw(Path("j_indresp.sav"), {}, 1, labels)


def test_labels_may_be_worded_otherwise(wave10: Survey) -> None:
    check_labels(labelled(j_sex={"1": "Male", "2": "FEMALE", "-9": "missing"}, j_scenv_bccc={"1": "Strongly  agree", "2": "Tend to agree", "3": "In between"}), wave10)


def test_a_scale_that_runs_the_other_way_is_refused(wave10: Survey) -> None:
    turned = {"1": "Strongly disagree", "2": "Disagree", "3": "Neither", "4": "Agree", "5": "Strongly agree"}
    with pytest.raises(InputError, match=r"j_indresp\.sav: calls codes otherwise") as error:
        check_labels(labelled(j_scenv_bccc=turned), wave10)
    assert "items.lifestyle (j_scenv_bccc): code 1 is 'Strongly disagree' in the file and 'strongly agree' in the codebook" in str(error.value)
    assert "code 3" not in str(error.value)


def test_a_scale_of_other_labels_is_refused(wave10: Survey) -> None:
    with pytest.raises(InputError, match=r"items\.lifestyle \(j_scenv_bccc\): the file has 1 Mentioned, 2 Not mentioned, of which the codebook knows none"):
        check_labels(labelled(j_scenv_bccc={"1": "Mentioned", "2": "Not mentioned"}), wave10)


def test_swapped_codes_of_a_demographic_are_refused(wave10: Survey) -> None:
    with pytest.raises(InputError, match=r"demographics\.sex \(j_sex\): code 1 is 'female' in the file and 'male' in the codebook"):
        check_labels(labelled(j_sex={"1": "female", "2": "male"}), wave10)


def test_unknown_codes_are_told_by_how_often_and_where_first() -> None:
    raw = Raw(Path("x.tab"), {"q": ["1", "8", "7", "8"]}, 2)
    assert describe_unknown(raw, {"q": [1, 2, 3]}).splitlines() == [
        "  x.tab: row 3: field q: code 8 is not declared (2 rows)",
        "  x.tab: row 4: field q: code 7 is not declared (1 rows)",
    ]
