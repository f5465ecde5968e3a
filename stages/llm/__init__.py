"""Language models behind one interface: llama.cpp in process, and the response cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stages import params
from stages.llm.cache import Cached
from stages.llm.llamacpp import LlamaCpp
from stages.params import Section


class Runtime(Section):
    """``params.yaml: runtime``: how fast, never what. No stage tracks it."""

    sequences: int
    cells: int
    device: str


@dataclass(frozen=True)
class LocalModel:
    """A loaded GGUF model and the cache before it."""

    raw: LlamaCpp
    "to attach adapters and to tokenise"
    cached: Cached
    "to ask"


@contextmanager
def local_model(file: Path, context: int) -> Iterator[LocalModel]:
    """Load a GGUF file behind the response cache; ``context`` is the longest prompt and answer together, in tokens."""
    runtime = params.load("runtime", Runtime)
    with LlamaCpp(file, runtime.sequences, context, runtime.cells) as raw:
        cached = Cached(raw)
        try:
            yield LocalModel(raw, cached)
        finally:
            cached.close()
