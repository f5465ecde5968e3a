"""Entries of instrument files, told apart by their ids."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Protocol, TypeVar

import pydantic


class Named(Protocol):
    """An entry."""

    @property
    def id(self) -> str:
        """Its name."""
        ...


N = TypeVar("N", bound=Sequence[Named])


def differing(entries: N) -> N:
    """``entries`` as they are.

    :raises ValueError: if two have the same id.
    """
    twice = [id for id, n in Counter(entry.id for entry in entries).items() if n > 1]
    if twice:
        raise ValueError(f"give each entry an id of its own; more than one has {', '.join(twice)}")
    return entries


Differing = Annotated[N, pydantic.AfterValidator(differing)]
"A field of entries whose ids differ."
