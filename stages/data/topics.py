"""The issue and the topics of each post, told by phrases, and the terms that could widen the phrases.

in   data/discourse/sided.parquet, prompts/topics/
out  data/discourse/posts.parquet: its columns, with issue (empty: none, or two alike) and topics (none, one or several)
     data/discourse/terms.csv: for each issue and topic the terms that mark it in this corpus, for you to read

A term counts only once you have read it: put those that fit under ``marking`` in the issue's file. Suggestions rest on the phrases of an issue or
topic alone, not on terms taken over, so they do not run away from what was meant.
"""

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pydantic
from numpy.typing import NDArray
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

from stages.core import command, params, results, tables
from stages.core.errors import InputError
from stages.core.params import Section
from stages.corpora import issues
from stages.corpora.cleaning import MASKED
from stages.corpora.issues import Issue
from stages.statistics.log_odds import log_odds


class Params(Section):
    """``params.yaml: topics``."""

    issues: tuple[str, ...]
    suggestions: int = pydantic.Field(ge=0)
    "most terms a topic"
    min_posts: int = pydantic.Field(ge=1)
    "of a topic that hold a term before it is suggested"
    min_z: float
    "of the log-odds ratio"
    prior: float = pydantic.Field(gt=0)
    "words that the prior is worth"


@dataclass(frozen=True)
class Place:
    """What terms are sought for."""

    issue: str
    topic: str
    "empty: the issue itself"
    found: re.Pattern[str]
    "by its own phrases"
    accepted: re.Pattern[str]
    "by those under `marking`"


@dataclass(frozen=True)
class Term:
    """A term that marks an issue or a topic."""

    issue: str
    topic: str
    "empty: the issue itself"
    term: str
    z: float
    "of its log-odds ratio: posts on the topic against other posts on the issue, or posts on the issue against all others"
    inside: int
    "posts on it with the term"
    outside: int
    "the other posts with the term"
    accepted: bool
    "already under `marking`"


def assign(texts: Sequence[str], found: Mapping[str, Issue], *, widened: bool = True) -> list[tuple[str | None, list[str]]]:
    """Issue and topics of each text."""
    issue_by_text = [issues.issue_of(text, found, widened=widened) for text in texts]
    return [(name, found[name].topics_of(text, widened=widened) if name else []) for name, text in zip(issue_by_text, texts, strict=True)]


def suggest(texts: Sequence[str], found: Mapping[str, Issue], settings: Params) -> list[Term]:
    """The terms (words and pairs of words) that mark each issue among all ``texts`` and each topic among those on its issue, the strongest first."""
    told = np.array([issues.issue_of(text, found, widened=False) or "" for text in texts], dtype=object)
    terms = []
    for name, issue in found.items():
        terms += _marking(texts, told == name, Place(name, "", issue.found_by_phrases, issues.pattern(issue.marking)), settings)
        on_issue = [text for text, of in zip(texts, told, strict=True) if of == name]
        for key, topic in issue.topics.items():
            members = np.array([bool(topic.found_by_phrases.search(text)) for text in on_issue], dtype=bool)
            terms += _marking(on_issue, members, Place(name, key, topic.found_by_phrases, issues.pattern(topic.marking)), settings)
    return terms


def _marking(texts: Sequence[str], members: NDArray[np.bool_], place: Place, settings: Params) -> list[Term]:
    """The terms that mark ``members`` [n] among ``texts`` [n].

    A term counts once a post. Left out are those that ``place`` finds anyway, and those that begin or end in a stop word.
    """
    counter = CountVectorizer(ngram_range=(1, 2), binary=True, min_df=settings.min_posts, token_pattern=r"(?u)\b[^\W\d_][\w'’]+\b")
    try:
        counts = counter.fit_transform([MASKED.sub(" ", text) for text in texts])  # [posts, terms]
    except ValueError:  # no term is in as many posts
        return []
    terms = counter.get_feature_names_out()
    meaningful = np.array([not {words[0], words[-1]} & ENGLISH_STOP_WORDS for words in (term.split() for term in terms)])
    background = np.asarray(counts.sum(axis=0)).ravel()
    inside = np.asarray(counts[members].sum(axis=0)).ravel()
    z = log_odds(inside, background - inside, background, settings.prior)
    eligible = np.flatnonzero(meaningful & (inside >= settings.min_posts) & (z >= settings.min_z))
    new = [i for i in eligible[np.argsort(-z[eligible], kind="stable")] if not place.found.search(terms[i])]
    return [
        Term(place.issue, place.topic, str(terms[i]), float(z[i]), int(inside[i]), int(background[i] - inside[i]), bool(place.accepted.search(terms[i])))
        for i in new[: settings.suggestions]
    ]


def main(source: Path, folder: Path, target: Path, suggestions: Path) -> None:
    """Tell issue and topics of all posts, and suggest terms."""
    settings = params.load("topics", Params)
    found = issues.load(folder, settings.issues)
    posts = tables.read(source, tables.SIDED)
    kept = np.array(posts.column("status").to_pylist()) == "kept"
    texts = np.array(posts.column("text").to_pylist(), dtype=object)
    told = iter(assign(texts[kept], found))
    told_by_row = [next(told) if use else (None, []) for use in kept]
    if not any(topics for _, topics in told_by_row):
        raise InputError(f"{source}: none of {kept.sum()} posts is on a topic of {', '.join(found)}. Give other posts, or phrases that fit them in {folder}.")
    added = {"issue": [issue for issue, _ in told_by_row], "topics": [topics for _, topics in told_by_row]}
    for name, values in added.items():
        posts = posts.append_column(tables.DISCOURSE.field(name), pa.array(values, tables.DISCOURSE.field(name).type))
    tables.write(target, posts, tables.DISCOURSE)
    terms = suggest(list(texts[kept]), found, settings)
    rows = [(term.issue, term.topic, term.term, term.z, term.inside, term.outside, "yes" if term.accepted else "no") for term in terms]
    results.write_plot(suggestions, ("issue", "topic", "term", "z", "posts", "other_posts", "accepted"), rows)
    counts = Counter((issue, topic) for issue, topics in told_by_row for topic in topics)
    for name, issue in found.items():
        print(f"topics {name}: " + ", ".join(f"{counts[name, topic]} {topic}" for topic in issue.topics), file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
