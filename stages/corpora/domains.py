"""Which side a shared link tells of: the news domain that it leads to, and that domain's ideology score.

A score runs from -1 (liberal) to 1 (conservative). A table holds numbers, or categories that ``categories`` turns into numbers; a category without
a number (satire, for one) leaves its domains known but without a side.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pandas as pd
import pydantic

from stages.core.errors import InputError
from stages.core.params import Section

Kind = Literal["scored", "no side", "unknown", "ignored", "shortened", "no link"]
"What a link is worth: evidence, a domain that the table lists without a side or does not list, a platform, a short link, or nothing readable."

SHORTENERS = frozenset(
    (
        *("adf.ly", "amzn.to", "bit.do", "bit.ly", "buff.ly", "cutt.ly", "disq.us", "dlvr.it", "fb.me", "goo.gl"),
        *("ift.tt", "is.gd", "j.mp", "lnkd.in", "mol.im", "ow.ly", "po.st", "rb.gy", "rebrand.ly", "shar.es"),
        *("shorturl.at", "su.pr", "t.co", "t.ly", "tiny.cc", "tinyurl.com", "trib.al", "v.gd", "wp.me"),
    )
)
"Services that hide where a link leads. Those of a single outlet (nyti.ms) belong in the table of domains."


class Table(Section):
    """Where the scores are, and what their columns are called."""

    path: Path
    domain: str = "domain"
    score: str = "score"
    "numbers from -1 to 1, or categories"
    categories: dict[str, float | None] = pydantic.Field(default_factory=dict)
    "the score of each category, null for none"
    ignored: tuple[str, ...] = ()
    "platforms, whose links tell where a post was found and not what its author reads"


@dataclass(frozen=True)
class Link:
    """One shared link."""

    domain: str
    "as listed, or the whole host; empty if there is none"
    kind: Kind
    score: float | None = None
    "-1..1, of a scored domain"


@dataclass(frozen=True)
class Domains:
    """Scores by domain."""

    scores: Mapping[str, float | None]
    "by domain, or by domain and section (cato.org/regulation); nothing for one without a side"
    ignored: frozenset[str]

    def rate(self, url: str) -> Link:
        """What ``url`` is worth.

        A subdomain or a section counts as its domain unless it is listed itself, so that abcnews.go.com is not go.com.
        """
        host = host_of(url)
        if not host:
            return Link("", "no link")
        sections = page_of(url).split("/")[1:]
        for domain in _upwards(host):
            if domain in SHORTENERS:
                return Link(domain, "shortened")
            if domain in self.ignored:
                return Link(domain, "ignored")
            for end in range(len(sections), -1, -1):
                listed = "/".join([domain, *sections[:end]])
                if listed in self.scores:
                    score = self.scores[listed]
                    return Link(listed, "no side" if score is None else "scored", score)
        return Link(host, "unknown")


def _upwards(host: str) -> Iterator[str]:
    parts = host.split(".")
    return (".".join(parts[start:]) for start in range(len(parts) - 1))


def host_of(url: str) -> str:
    """The host of a link in lower case, without ``www.`` and port; empty if it has none."""
    url = url.strip()
    try:
        host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
    except ValueError:
        return ""
    host = host.rstrip(".").removeprefix("www.")
    return host if "." in host and not any(character.isspace() for character in host) else ""


def page_of(url: str) -> str:
    """What tells two links to one page apart from links to two: host and path, without scheme, query, fragment and closing slash."""
    host = host_of(url)
    return f"{host}{urlsplit(url.strip() if '://' in url else f'//{url.strip()}').path.rstrip('/')}" if host else ""


def load(path: Path, table: Table) -> Domains:
    """Read and check the table of scores at ``path``.

    :raises InputError: if the file or a column is missing, a domain is listed twice (all such rows are named), or a score is no number from -1 to
        1 and no category with a known value.
    """
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not readable as CSV: {error}") from error
    missing = [name for name in (table.domain, table.score) if name not in rows.columns]
    if missing:
        raise InputError(f"{path}: column {', '.join(missing)} is missing. The file has: {', '.join(rows.columns)}. Set discourse.domains in params.yaml.")
    pages = rows[table.domain].map(page_of)
    _refuse_unreadable(path, rows[table.domain], pages)
    _refuse_doubled(path, pages)
    scores = {page: _score(path, table, number, value) for number, page, value in zip(rows.index + 2, pages, rows[table.score], strict=True)}
    if not any(score is not None for score in scores.values()):
        raise InputError(f"{path}: no domain has a score. Give another table, or scores for its categories in discourse.domains.categories.")
    return Domains(scores, frozenset(table.ignored))


def _refuse_unreadable(path: Path, given: "pd.Series[str]", pages: "pd.Series[str]") -> None:
    if not pages.all():
        first = int(pages.eq("").to_numpy().argmax())
        raise InputError(f"{path}: row {first + 2}: field {given.name}: '{given.iloc[first]}' is no domain. Correct or delete the row.")


def _refuse_doubled(path: Path, pages: "pd.Series[str]") -> None:
    doubled = pages[pages.duplicated(keep=False)]
    if len(doubled):
        places = [f"{page} in rows {', '.join(str(i + 2) for i in rows.index)}" for page, rows in doubled.groupby(doubled, sort=False)]
        raise InputError(f"{path}: {len(places)} domains are listed more than once: {'; '.join(places)}. Keep one row of each.")


def _score(path: Path, table: Table, number: int, value: str) -> float | None:
    if value in table.categories:
        return table.categories[value]
    try:
        score = float(value)
    except ValueError as error:
        raise InputError(
            f"{path}: row {number}: field {table.score}: '{value}' is neither a number nor a category of discourse.domains.categories "
            f"({', '.join(table.categories) or 'there is none'}). Give it a score there, or null."
        ) from error
    if not -1 <= score <= 1:
        raise InputError(f"{path}: row {number}: field {table.score}: {value} is not from -1 to 1. Rescale the table.")
    return score
