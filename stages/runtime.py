"""``params.yaml: runtime``: how fast, never what. No stage tracks it."""

from stages.params import Section


class Runtime(Section):
    """Fits the work to the machine."""

    sequences: int
    "answers that are written side by side, at most 254"
    micro_batch: int
    "samples that are trained on side by side"
    device: str
    "for training: auto, cpu, cuda"
