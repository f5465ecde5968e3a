from pathlib import Path

import pytest

from stages.core import params
from stages.core.errors import InputError
from stages.instruments import judging
from stages.instruments.judging import Params

pytestmark = pytest.mark.usefixtures("in_root")


def settings(**changes: object) -> Params:
    return Params.model_validate(params.load("judge", Params).model_dump() | changes)


def test_no_model_judges_itself_unless_told_to(tmp_path: Path) -> None:
    measured, same, other = tmp_path / "model.gguf", tmp_path / "copy.gguf", tmp_path / "other.gguf"
    measured.write_bytes(b"weights")
    same.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    model = {"context": 512, "max_characters": 100}
    with pytest.raises(InputError, match=r"copy\.gguf is the very model"):
        judging.refuse_own_model(settings(judges=["llm"], model=model | {"file": same}), measured)
    judging.refuse_own_model(settings(judges=["llm"], model=model | {"file": same}, judge_own_model=True), measured)
    judging.refuse_own_model(settings(judges=["llm"], model=model | {"file": other}), measured)
    judging.refuse_own_model(settings(judges=["classifier"], model=model | {"file": same}), measured)


@pytest.mark.parametrize("judges", [[], ["oracle"], ["llm", "llm"]])
def test_judges_must_be_known_and_differ(judges: list[str]) -> None:
    with pytest.raises(ValueError, match="judges"):
        settings(judges=judges)
