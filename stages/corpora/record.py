"""What every reader yields."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Unusable = Literal["unreadable", "deleted", "empty", "language"]
"Why the format itself says that a record holds no post: a bad row, a deleted post, a re-post without text, another language."


@dataclass(frozen=True)
class Record:
    """One row of a dump."""

    native_id: str
    "identifies the post in its dump"
    author: str | None
    "as the dump names the author; hashed before it is written anywhere"
    created_at: datetime | None
    "with a time zone"
    text: str
    "raw"
    unusable: Unusable | None = None
    problem: str = ""
    "of an unreadable row: its place and what is wrong with it"
    links: tuple[str, ...] = ()
    "URLs that the dump lists beside the text"
