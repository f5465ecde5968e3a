"""A checkpoint to the two forms that all stages use: weights to train, and a llama.cpp file to ask.

in   a checkpoint of Llama's architecture: a GGUF file, a Hugging Face folder (config.json, safetensors, tokenizer.json), or either as a Python
     package ships it ("package:<package>/<path>")
out  models/base/: config.json and model.safetensors (Hugging Face's layout, bfloat16), model.gguf; of a Hugging Face folder the tokenizer too
"""

import importlib.resources
import shutil
from pathlib import Path
from typing import Literal

import llama_cpp

from stages.core import command, params
from stages.core.errors import InputError
from stages.core.files import replacing
from stages.core.params import Section
from stages.llm import vocabulary
from stages.llm.tokenizer import tokenizer_of
from stages.tuning import gguf_model, huggingface, metadata, weights

LAYOUTS = {"BF16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16, "F16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16, "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}


TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "generation_config.json")
"Files that are taken over from a Hugging Face folder, so that transformers can load models/base with an adapter."


class Params(Section):
    """``params.yaml: base``."""

    checkpoint: str
    layout: Literal["BF16", "F16", "Q8_0", "Q4_0"]


def resolve(checkpoint: str) -> Path:
    """The path of a checkpoint, a file or a folder, which may lie in an installed package.

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
            raise InputError(f"base.checkpoint: there is no package {package}. Install it, or name a GGUF file or a folder.") from error
    if not path.exists():
        raise InputError(f"{path}: there is no such checkpoint. See base.checkpoint in params.yaml.")
    return path


def convert(checkpoint: Path, layout: str, folder: Path) -> None:
    """Write both forms of ``checkpoint`` into ``folder``.

    :raises InputError: if it is incomplete or damaged, of an unknown architecture, or its tokenizer does not fit.
    """
    if checkpoint.is_dir():
        _convert_folder(checkpoint, layout, folder)
    else:
        _convert_gguf(checkpoint, layout, folder)


def _convert_gguf(checkpoint: Path, layout: str, folder: Path) -> None:
    architecture, tensors = weights.read_gguf(checkpoint)
    metadata.check_vocabulary(weights.open_gguf(checkpoint), checkpoint)
    weights.write_folder(folder, architecture, tensors)
    _quantize(checkpoint, folder / "model.gguf", layout)


def _convert_folder(checkpoint: Path, layout: str, folder: Path) -> None:
    architecture = huggingface.read_architecture(checkpoint)
    words = vocabulary.read(checkpoint, architecture.vocab_size)
    weights.write_hugging_face(folder, architecture, huggingface.read(checkpoint, architecture))
    whole, asked = folder / "whole.gguf", folder / "model.gguf"
    gguf_model.write(whole, folder, architecture, words)
    with tokenizer_of(whole) as tokenizer:
        vocabulary.compare(checkpoint, tokenizer)
    if layout == "BF16":
        whole.rename(asked)
    else:
        _quantize(whole, asked, layout)
        whole.unlink()
    for name in TOKENIZER:
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, folder / name)


def _quantize(source: Path, target: Path, layout: str) -> None:
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.allow_requantize = LAYOUTS[layout], True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), settings):
        raise InputError(f"base.layout: llama.cpp cannot write {source} as {layout}. Is the disk full?")


def main(target: Path) -> None:
    """Convert the base model."""
    settings = params.load("base", Params)
    checkpoint = resolve(settings.checkpoint)
    with replacing(target) as folder:
        convert(checkpoint, settings.layout, folder)


if __name__ == "__main__":
    command.run(main)
