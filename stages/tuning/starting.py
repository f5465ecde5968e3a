"""Tuning that goes on where an adapter ended: its matrices, read back into a model."""

from collections.abc import Mapping
from pathlib import Path

import torch
from gguf import GGUFReader
from torch import nn

from stages.core.errors import InputError
from stages.tuning import distributed
from stages.tuning.architecture import Lora
from stages.tuning.weights import GGUF_NAMES


def last_checkpoint(folder: Path) -> Path | None:
    """The file of an adapter's last checkpoint; none for a base model, which has no adapter.

    :raises InputError: if the folder holds neither.
    """
    files = sorted(folder.glob("step-*/adapter.gguf"))
    if not files and not (folder / "model.safetensors").exists():
        raise InputError(f"{folder}: holds no step-*/adapter.gguf and is no base model. Name adapters in undo.starts, or set undo.folder to models and undo.starts to [base].")
    return files[-1] if files else None


def read(file: Path, lora: Lora) -> dict[str, torch.Tensor]:
    """The matrices of an ``adapter.gguf`` that :func:`stages.tuning.formats.write` wrote, by torchtune's names.

    :raises InputError: if it is none, or its rank or alpha are not those of ``lora``.
    """
    try:
        reader = GGUFReader(file)
        alpha = float(reader.fields["adapter.lora.alpha"].contents())
        found = {_ours(tensor.name): torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{file}: is no adapter that can be tuned further ({error!r}). Run the stage that writes it again: `dvc repro -f`.") from error
    rank = next((len(matrix) for name, matrix in found.items() if name.endswith("lora_a.weight")), 0)
    if (rank, alpha) != (lora.rank, lora.alpha):
        raise InputError(f"{file}: has rank {rank} and alpha {alpha:g}, and tuning.lora says {lora.rank} and {lora.alpha:g}. Train it again with these.")
    return found


def _ours(name: str) -> str:
    _, block, module, _, part = name.split(".")  # blk.<i>.<module>.weight.lora_<a|b>
    return f"layers.{block}.{GGUF_NAMES[f'{module}.weight'].removesuffix('.weight')}.{part}.weight"


def fill(model: nn.Module, weights: Mapping[str, torch.Tensor], source: Path) -> None:
    """Set the parameters of ``model`` that are trained to ``weights``, which come from ``source``; every process must ask for it.

    :raises InputError: if these are not its trained parameters, by name and shape.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    unlike = sorted(name for name in trained.keys() | weights.keys() if name not in trained or name not in weights or trained[name].shape != weights[name].shape)
    if unlike:
        raise InputError(f"{source}: is no adapter of this base model and tuning.lora; {len(unlike)} of its matrices do not fit, such as {unlike[0]}. Train it again with both.")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(distributed.like(weights[name], parameter))
