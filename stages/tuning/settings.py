"""``params.yaml``: what the training stages read."""

from typing import Literal

import pydantic

from stages.core.params import Section
from stages.tuning.architecture import Lora


class Tuning(Section):
    """``params.yaml: tuning``, shared by every training stage."""

    lora: Lora
    precision: Literal["bf16", "fp32"]
    base_precision: Literal["full", "nf4"] = "full"
    held_out: float = pydantic.Field(ge=0, lt=1)
    max_length: int = pydantic.Field(ge=16)
    clip: float = pydantic.Field(gt=0)
    seed: int


class Schedule(Section):
    """How long and how fast one training stage goes."""

    steps: int = pydantic.Field(ge=1)
    checkpoint_every: int = pydantic.Field(ge=1)
    batch_size: int = pydantic.Field(ge=1)
    learning_rate: float = pydantic.Field(gt=0)
    weight_decay: float = pydantic.Field(ge=0)
    warmup: float = pydantic.Field(ge=0, lt=1)

    @property
    def alone(self) -> "Schedule":
        """Without what a stage's section says beside it: which datasets or adapters there are changes none of them."""
        return Schedule(**{name: getattr(self, name) for name in Schedule.model_fields})
