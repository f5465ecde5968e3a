"""A checkpoint to the two forms that all stages use: weights to train, and a llama.cpp file to ask.

in   a GGUF file of Llama's architecture, or one that a Python package ships ("package:<package>/<file>")
out  models/base/: config.json and model.safetensors (Hugging Face's layout, bfloat16), model.gguf
"""

import importlib.resources
from pathlib import Path
from typing import Literal

import llama_cpp

from stages import command, params
from stages.errors import InputError
from stages.files import replacing
from stages.params import Section
from stages.tuning import weights

LAYOUTS = {"BF16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16, "F16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16, "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}


class Params(Section):
    """``params.yaml: base``."""

    checkpoint: str
    layout: Literal["BF16", "F16", "Q8_0", "Q4_0"]


def resolve(checkpoint: str) -> Path:
    """The path of a checkpoint, which may lie in an installed package.

    :raises InputError: if it is not there.
    """
    scheme, _, rest = checkpoint.rpartition(":")
    if scheme != "package":
        path = Path(checkpoint)
    else:
        package, _, name = rest.partition("/")
        try:
            path = Path(str(importlib.resources.files(package) / name))
        except (ModuleNotFoundError, ValueError, TypeError) as error:
            raise InputError(f"base.checkpoint: there is no package {package}. Install it, or name a GGUF file.") from error
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Give a GGUF file; llama.cpp's convert_hf_to_gguf.py makes one from a Hugging Face folder.")
    if not path.is_file():
        raise InputError(f"{path}: there is no such checkpoint. See base.checkpoint in params.yaml.")
    return path


def convert(checkpoint: Path, layout: str, folder: Path) -> None:
    """Write both forms of ``checkpoint`` into ``folder``.

    :raises InputError: if it is no complete GGUF file or of an unknown architecture.
    """
    architecture, tensors = weights.read_gguf(checkpoint)
    weights.write_folder(folder, architecture, tensors)
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.allow_requantize = LAYOUTS[layout], True
    if llama_cpp.llama_model_quantize(str(checkpoint).encode(), str(folder / "model.gguf").encode(), settings):
        raise InputError(f"{checkpoint}: llama.cpp cannot write it as {layout}. Is the disk full?")


def main(target: Path) -> None:
    """Convert the base model."""
    settings = params.load("base", Params)
    checkpoint = resolve(settings.checkpoint)
    with replacing(target) as folder:
        convert(checkpoint, settings.layout, folder)


if __name__ == "__main__":
    command.run(main)
