"""The annotator and the measured models: a GGUF file in process, behind the response cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stages import params
from stages.llm.cache import Cached
from stages.llm.llamacpp import LlamaCpp
from stages.params import Section
from stages.runtime import Runtime


class Annotator(Section):
    """``params.yaml: annotator``: the model that scores posts and writes answers."""

    file: Path
    context: int
    "longest prompt and answer together, in tokens"
    max_characters: int
    "of a post are shown"


class Measuring(Section):
    """``params.yaml: measuring``, shared by every stage that measures the base and its adapters."""

    context: int
    "longest question and answer together, in tokens"


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
    with LlamaCpp(file, runtime.sequences, context) as raw:
        cached = Cached(raw)
        try:
            yield LocalModel(raw, cached)
        finally:
            cached.close()
