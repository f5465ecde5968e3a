from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.core.errors import InputError
from stages.tuning import formats
from stages.tuning.architecture import Lora
from stages.tuning.starting import fill, last_checkpoint, read

LORA = Lora(rank=4, alpha=8.0, dropout=0.0, attention=("q", "k", "v"), mlp=True)


def written(folder: Path, tiny: Callable[..., Any]) -> Path:
    architecture, model = tiny(lora=LORA)
    formats.write(folder, formats.lora_weights(model), architecture, LORA, "test")
    return folder / "adapter.gguf"


def test_a_model_answers_as_the_one_whose_adapter_was_read_back(tiny: Callable[..., Any], tmp_path: Path) -> None:
    (architecture, first), (_, second) = tiny(lora=LORA), tiny(lora=LORA, filled=False)
    formats.write(tmp_path, formats.lora_weights(first), architecture, LORA, "test")
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert not torch.equal(first(tokens), second(tokens))
        fill(second, read(tmp_path / "adapter.gguf", LORA), tmp_path)
        assert torch.equal(first(tokens), second(tokens))


@pytest.mark.parametrize(("other", "message"), [({"rank": 8}, "rank 4 and alpha 8, and tuning.lora says 8"), ({"alpha": 4.0}, "says 4 and 4")])
def test_an_adapter_of_other_dimensions_is_refused(tiny: Callable[..., Any], tmp_path: Path, other: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(written(tmp_path, tiny), Lora.model_validate(LORA.model_dump() | other))


def test_an_adapter_of_other_modules_is_refused_by_name(tiny: Callable[..., Any], tmp_path: Path) -> None:
    found = read(written(tmp_path, tiny), LORA)
    without = {name: matrix for name, matrix in found.items() if "mlp" not in name}
    with pytest.raises(InputError, match=r"a\.gguf: is no adapter of this base model.*12 of its matrices.*layers\.0\.mlp"):
        fill(tiny(lora=LORA)[1], without, Path("a.gguf"))


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter.gguf").write_bytes(b"GGUF, or not")
    with pytest.raises(InputError, match=r"adapter\.gguf: is no adapter that can be tuned further"):
        read(tmp_path / "adapter.gguf", LORA)
    with pytest.raises(InputError, match=r"nowhere: holds no step"):
        last_checkpoint(tmp_path / "nowhere")


def test_the_last_checkpoint_is_the_start_and_a_base_has_none(tmp_path: Path) -> None:
    for step in (8, 16):
        (tmp_path / f"left/step-{step:06d}").mkdir(parents=True)
        (tmp_path / f"left/step-{step:06d}/adapter.gguf").touch()
    (tmp_path / "model.safetensors").touch()
    assert last_checkpoint(tmp_path / "left") == tmp_path / "left/step-000016/adapter.gguf"
    assert last_checkpoint(tmp_path) is None
