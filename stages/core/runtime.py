"""``params.yaml: runtime``: how fast, never what. No stage tracks it."""

import pydantic

from stages.core.params import Section


class Runtime(Section):
    """Fits the work to the machine."""

    sequences: int
    "answers that are written side by side, at most 255"
    micro_batch: int = pydantic.Field(ge=1)
    "samples that are trained on side by side"
    device: str
    "for training and choosing: auto, cpu, cuda"
    processes: int = pydantic.Field(1, ge=1)
    "that train one model together, each with its own GPU where there are GPUs"
    activation_checkpointing: bool = False
    "whether training computes activations twice instead of keeping them"
