"""Posts with the side of their authors, told by the news domains that an author shares.

in   a corpus with links (any table, or a Truth Social folder), a table of domains with ideology scores, data/external/removed.txt: posts to take out
out  data/discourse/sided.parquet: the columns of data/posts, and of each post's author
         lean   mean score of the links to scored domains, -1 (liberal) to 1 (conservative); empty without any
         group  liberal, conservative, mixed (enough links, no clear lean), unknown (too few links)
         links  how many links the lean rests on
     data/discourse/domains.csv: what was shared, most often first, and what it was worth

Texts are cleaned and rows marked as ``collect`` does, with its parameters. A page counts once for an author, however often it is shared. Links of
posts that are marked as unusable count too: a bare link says what its author reads. Those of posts that are taken out do not. Nothing is guessed: an author
without evidence stays unknown.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from stages.core import command, params, results, tables
from stages.core.files import replacing, short_hash
from stages.core.params import Section
from stages.corpora import discourse, domains, removal
from stages.corpora.domains import Domains, Kind
from stages.corpora.record import Record
from stages.corpora.removal import Removals
from stages.data import collect

Group = Literal["liberal", "conservative", "mixed", "unknown"]


class Params(Section):
    """``params.yaml: discourse``."""

    source: discourse.Source
    domains: domains.Table
    min_links: int = pydantic.Field(ge=1)
    "to scored domains that an author needs for a side"
    threshold: float = pydantic.Field(ge=0, le=1)
    "a lean at least this far from 0 is a side"


@dataclass(frozen=True)
class Side:
    """What is known of an author."""

    lean: float | None
    "-1..1; nothing without a scored link"
    group: Group
    links: int


NOTHING_KNOWN = Side(None, "unknown", 0)


def side_of(scores: float, links: int, settings: Params) -> Side:
    """The side of an author whose ``links`` scored links sum to ``scores``."""
    if not links:
        return NOTHING_KNOWN
    lean = scores / links
    if links < settings.min_links:
        return Side(lean, "unknown", links)
    if abs(lean) < settings.threshold or lean == 0:
        return Side(lean, "mixed", links)
    return Side(lean, "liberal" if lean < 0 else "conservative", links)


@dataclass
class Evidence:
    """What authors share, gathered while their posts stream by."""

    domains: Domains
    shared: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    "how often each domain was shared"
    posts: int = 0
    posts_without_links: int = 0
    authors: dict[str, list[float]] = field(default_factory=dict)
    "sum of scores and number of scored links by author, as the dump names the author"
    _seen: set[str] = field(default_factory=set)

    def watch(self, records: Iterator[Record], source: str, removals: Removals) -> Iterator[Record]:
        """Pass ``records`` of ``source`` on and take note of their links, but not of those in posts that are taken out."""
        for record in records:
            if not removals.name(record.native_id, short_hash(source, record.native_id)):
                self.add(record)
            yield record

    def add(self, record: Record) -> None:
        """Take note of one post's links; a page counts once for an author."""
        self.posts += 1
        self.posts_without_links += not record.links
        for page, url in {domains.page_of(url) or url: url for url in record.links}.items():
            link = self.domains.rate(url)
            self.shared[link.domain, link.kind] += 1
            key = short_hash(record.author, page)
            if record.author is None or link.score is None or key in self._seen:
                continue
            self._seen.add(key)
            known = self.authors.setdefault(record.author, [0.0, 0])
            known[0] += link.score
            known[1] += 1

    def sides(self, settings: Params, source: str, salt: str) -> dict[str, Side]:
        """The side of every author with evidence, by hashed author."""
        return {collect.hash_author(source, author, salt): side_of(scores, int(links), settings) for author, (scores, links) in self.authors.items()}

    def kinds(self) -> Counter[Kind]:
        """How many shared links are worth what."""
        counts: Counter[Kind] = Counter()
        for (_, kind), n in self.shared.items():
            counts[kind] += n
        return counts


def write_sided(posts: Path, sides: Mapping[str, Side], target: Path) -> Counter[str]:
    """Copy ``posts`` with the side of each author; how many authors are in each group."""
    groups: dict[str, Group] = {}
    with pq.ParquetFile(posts) as file, replacing(target) as temporary, pq.ParquetWriter(temporary, tables.SIDED, compression="zstd") as writer:
        for batch in file.iter_batches(batch_size=collect.CHUNK):
            authors = batch.column("author").to_pylist()
            known = [sides.get(author, NOTHING_KNOWN) for author in authors]
            groups.update((author, side.group) for author, side in zip(authors, known, strict=True) if author is not None)
            added = {"lean": [side.lean for side in known], "group": [side.group for side in known], "links": [side.links for side in known]}
            columns = {name: batch.column(name) for name in batch.schema.names} | added
            writer.write_table(pa.table({name: pa.array(columns[name], type=tables.SIDED.field(name).type) for name in tables.SIDED.names}, schema=tables.SIDED))
    return Counter(groups.values())


def shared_domains(evidence: Evidence) -> list[tuple[str, Kind, float | str, int]]:
    """Domain, kind, score (empty without one) and how often it was shared, the most frequent first."""
    found = sorted(evidence.shared.items(), key=lambda entry: (-entry[1], entry[0]))
    return [(domain, kind, (evidence.domains.scores.get(domain) or 0.0) if kind == "scored" else "", n) for (domain, kind), n in found]


def main(source: Path, scores: Path, removed: Path, target: Path, shared: Path) -> None:
    """Collect posts and tell the sides of their authors."""
    settings, cleaning = params.load("discourse", Params), params.load("collect", collect.Params)
    name = f"{settings.source.format}:{source.name}"
    evidence, removals = Evidence(domains.load(scores, settings.domains)), removal.read(removed)
    with TemporaryDirectory() as folder:
        posts = Path(folder) / "posts.parquet"
        statuses = collect.collect(evidence.watch(discourse.read(settings.source), name, removals), name, cleaning, posts, removals)
        groups = write_sided(posts, evidence.sides(settings, name, cleaning.salt), target)
    results.write_plot(shared, ("domain", "kind", "score", "shared"), shared_domains(evidence))
    print(f"discourse: {evidence.posts} posts, {evidence.posts_without_links} of them without a link", file=sys.stderr)
    for what, counts in (("posts", statuses), ("authors", groups), ("links", evidence.kinds())):
        print(f"  {what}: " + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items(), key=lambda entry: -entry[1])), file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
