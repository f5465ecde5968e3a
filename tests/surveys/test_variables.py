import math

import pydantic
import pytest

from stages.surveys.variables import Banded, Coded, code


@pytest.mark.parametrize(
    ("cell", "expected"),
    [(1, "1"), (1.0, "1"), ("1", "1"), (" 1.00 ", "1"), ("-9", "-9"), ("-9.0", "-9"), ("+2", "2"), (0.5, "0.5"), (".5", "0.5"), ("1e3", "1000"), ("yes", "yes"), ("1_0", "1_0")],
)
def test_a_code_is_written_in_one_way(cell: object, expected: str) -> None:
    assert code(cell) == expected


@pytest.mark.parametrize("cell", [None, "", "  ", math.nan, "NaN"])
def test_an_empty_cell_is_no_code(cell: object) -> None:
    assert code(cell) is None


def test_codes_with_one_label_are_joined_in_the_order_of_the_scale() -> None:
    assert Coded(options={3: "left", 1: "left", 2: "right"}).labels == ("left", "right")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"options": {1: "yes", 2: "yes"}}, "two labels at least"),
        ({"options": {1: "yes", 2: "no"}, "missing": [2]}, "code 2 is declared as an answer too"),
        ({"options": {1: "yes", 2: "no"}, "aliases": {"maybe": ["perhaps"]}}, "maybe is none of the labels"),
    ],
)
def test_a_scale_that_contradicts_itself_is_refused(values: dict[str, object], problem: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=problem):
        Coded.model_validate(values)


@pytest.mark.parametrize(("number", "label"), [(15.9, None), (16, "young"), (29.99, "young"), (30, "old"), (90, "old"), (90.1, None)])
def test_a_band_reaches_from_its_number_to_the_next(number: float, label: str | None) -> None:
    assert Banded(bands={"young": 16, "old": 30}, top=90).band(number) == label


@pytest.mark.parametrize("bands", [{"all": 0}, {"old": 30, "young": 16}, {"young": 16, "old": 100}])
def test_bands_that_do_not_ascend_are_refused(bands: dict[str, float]) -> None:
    with pytest.raises(pydantic.ValidationError, match="ascending order"):
        Banded(bands=bands, top=100)
