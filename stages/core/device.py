"""Where torch computes."""

import torch

from stages.core.errors import InputError


def device_for(wish: str) -> torch.device:
    """``auto``: the GPU where there is one.

    :raises InputError: if the name is none that torch knows.
    """
    try:
        return torch.device("cuda" if wish == "auto" and torch.cuda.is_available() else "cpu" if wish == "auto" else wish)
    except RuntimeError as error:
        raise InputError(f"params.yaml: runtime.device: torch knows no device '{wish}'. Write auto, cpu or cuda.") from error


def multiplies_bf16() -> bool:
    """Whether oneDNN, which torch multiplies matrices with, takes bf16 numbers on this CPU."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[no-untyped-call]  # torch does not annotate it
