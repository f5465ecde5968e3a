"""Figures that the data do not define."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Undefined:
    """Stands where a figure would, if the data do not determine it; metric files leave it out."""

    reason: str
