"""The annotator and the measured models, behind the response cache and a meter."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.core import params
from stages.core.params import Section
from stages.core.runtime import Runtime
from stages.llm.cache import Cached
from stages.llm.endpoint import Endpoint, Traffic
from stages.llm.interface import LanguageModel
from stages.llm.llamacpp import LlamaCpp
from stages.llm.usage import Metered


class Annotator(Section):
    """``params.yaml: annotator``: the model that scores posts and writes answers."""

    file: Path
    "a GGUF file, or a YAML file that describes a server (:class:`stages.llm.endpoint.Endpoint`)"
    context: int
    "longest prompt and answer together, in tokens; a server knows its own"
    max_characters: int
    "of a post are shown"


class Measuring(Section):
    """``params.yaml: measuring``, shared by every stage that measures the base and its adapters."""

    context: int
    "longest question and answer together, in tokens"


@contextmanager
def annotating_model(annotator: Annotator, what: str) -> Iterator[Metered]:
    """The annotator, ready to be asked; ``what`` names the work for the progress line."""
    if annotator.file.suffix == ".yaml":
        from stages.llm.server import Server  # noqa: PLC0415  # the client takes a second to import

        endpoint = params.parse(Endpoint, params.read_yaml(annotator.file), str(annotator.file))
        with Server(endpoint, params.load("server", Traffic)) as server, _kept_and_counted(server, what, 0) as model:
            yield model
    else:
        with measured_model(annotator.file, annotator.context, what) as (_, model):
            yield model


@contextmanager
def measured_model(file: Path, context: int, what: str, total: int = 0) -> Iterator[tuple[LlamaCpp, Metered]]:
    """A GGUF file twice: to attach adapters to, and to be asked.

    ``context`` is the longest prompt and answer together, in tokens; ``what`` and ``total`` are the work and its answers, for the progress line.
    """
    runtime = params.load("runtime", Runtime)
    with LlamaCpp(file, runtime.sequences, context, runtime.device) as engine, _kept_and_counted(engine, what, total) as model:
        yield engine, model


@contextmanager
def _kept_and_counted(model: LanguageModel, what: str, total: int) -> Iterator[Metered]:
    cached = Cached(model)
    metered = Metered(cached, what, total)
    try:
        yield metered
    finally:
        cached.close()
        metered.close()
