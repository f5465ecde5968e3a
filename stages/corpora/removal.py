"""The list of posts to take out, because their authors ask or for any other reason."""

from dataclasses import dataclass
from pathlib import Path

from stages.core.errors import InputError

STATUS = "removed"


@dataclass(frozen=True)
class Removals:
    """Ids of posts, as a dump or our tables name them."""

    ids: frozenset[str] = frozenset()

    def name(self, *ids: str) -> bool:
        """Whether any of a post's ids is listed."""
        return not self.ids.isdisjoint(ids)


def read(path: Path) -> Removals:
    """Read one id a line; blank lines, lines that begin with ``#`` and what follows `` #`` do not count.

    :raises InputError: if the file is missing or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file. Bring it back with `git checkout {path}`, or make an empty one.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 ({error}). Save it as UTF-8.") from error
    lines = (line.split(" #")[0].strip() for line in text.splitlines() if not line.startswith("#"))
    return Removals(frozenset(filter(None, lines)))
