"""A checkpoint as a Hugging Face folder: ``config.json`` and weights in one or several safetensors files.

Nothing is unpickled: a folder whose weights only come as ``.bin`` files is refused, because loading those can run code.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from stages.core.errors import InputError
from stages.tuning import metadata, weights
from stages.tuning.architecture import Architecture, shapes
from stages.tuning.weights import Weights

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
SAFE = "AutoModelForCausalLM.from_pretrained(…).save_pretrained(…) of transformers writes safetensors"


def read_architecture(folder: Path) -> Architecture:
    """The architecture that a folder's ``config.json`` describes.

    :raises InputError: if the folder is none of Hugging Face's, or of another architecture than Llama's.
    """
    file = folder / "config.json"
    try:
        return metadata.from_config(file)
    except FileNotFoundError as error:
        if (folder / "adapter_config.json").exists():
            raise InputError(f"{folder}: is an adapter. Give the folder of the model that it was tuned from.") from error
        ggufs = sorted(path.name for path in folder.glob("*.gguf"))
        if ggufs:
            raise InputError(f"{folder}: holds GGUF files. Give one of them, such as {folder / ggufs[0]}.") from error
        raise InputError(f"{folder}: holds no config.json. Give a GGUF file, or a folder as Hugging Face's transformers write and read them.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: is not readable as JSON ({error}). Download it again.") from error


def read(folder: Path, architecture: Architecture) -> Weights:
    """The weights of a folder in Hugging Face's names and layout, as bfloat16.

    Tensors that are bfloat16 in the file already stay memory-mapped, so they need no memory of their own.

    :raises InputError: if a file or tensor is missing, damaged, left over or of another shape than ``config.json`` says.
    """
    found: Weights = {}
    for name, tensors in _files(folder).items():
        try:
            with safe_open(folder / name, framework="pt") as file:
                missing = tensors - set(file.keys())
                if missing:
                    raise InputError(f"{folder / name}: lacks {min(missing)}, which {INDEX} places there. Download both again.")
                wanted = [key for key in file.keys() if not _derived(key, architecture)]  # noqa: SIM118  # the file is no dictionary
                found |= {key: _bfloat16(file.get_tensor(key), f"{folder / name}: {key}") for key in wanted}
        except (OSError, SafetensorError) as error:
            raise InputError(f"{folder / name}: is no complete safetensors file ({error}). Download it again.") from error
    empty = {name: torch.empty(shape, device="meta") for name, shape in shapes(architecture).items()}
    expected = {name: tuple(tensor.shape) for name, tensor in weights.to_hugging_face(empty, architecture).items()}
    weights.check({name: tuple(tensor.shape) for name, tensor in found.items()}, expected, folder)
    return found


def _files(folder: Path) -> dict[str, set[str]]:
    """The safetensors files of a folder, with the tensors that the index expects in each."""
    if (folder / SINGLE).exists():
        return {SINGLE: set()}
    if not (folder / INDEX).exists():
        if any(path for pattern in PICKLES for path in folder.glob(pattern)):
            raise InputError(f"{folder}: holds its weights as pickles only, which can run code when they are loaded. Use the safetensors of this checkpoint; {SAFE}.")
        raise InputError(f"{folder}: holds neither {SINGLE} nor {INDEX}. Download the weights too.")
    try:
        entries = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].items()
        files: dict[str, set[str]] = {}
        for tensor, name in entries:
            files.setdefault(Path(name).name, set()).add(tensor)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / INDEX}: is no index of safetensors files ({error!r}). Download it again.") from error
    missing = sorted(name for name in files if not (folder / name).is_file())
    if missing:
        raise InputError(f"{folder}: lacks {len(missing)} of {len(files)} files of its weights: {', '.join(missing[:10])}. Download them.")
    return files


def _derived(name: str, architecture: Architecture) -> bool:
    """Whether a tensor follows from others: old checkpoints hold the rotary embedding, some tied ones the output layer."""
    return name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and architecture.tie_word_embeddings)


def _bfloat16(tensor: torch.Tensor, place: str) -> torch.Tensor:
    if tensor.dtype not in (torch.bfloat16, torch.float16, torch.float32):
        raise InputError(f"{place}: holds numbers of type {tensor.dtype}. Use the checkpoint as it was before it was quantised.")
    return tensor.bfloat16()
