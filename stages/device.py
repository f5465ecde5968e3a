"""Where torch computes."""

import torch

from stages.errors import InputError


def device_for(wish: str) -> torch.device:
    """``auto``: the GPU where there is one.

    :raises InputError: if the name is none that torch knows.
    """
    try:
        return torch.device("cuda" if wish == "auto" and torch.cuda.is_available() else "cpu" if wish == "auto" else wish)
    except RuntimeError as error:
        raise InputError(f"params.yaml: runtime.device: torch knows no device '{wish}'. Write auto, cpu or cuda.") from error
