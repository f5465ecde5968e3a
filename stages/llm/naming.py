"""Which of the given options an answer names: read from the probabilities of its tokens, or counted over several answers."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEAST = 1e-9
"Every option gets at least this probability, so that ratios stay finite."
LEAST_BRANCH = 0.01
"Of all that names an option: options that begin alike and together hold less are not told apart."
END = re.compile(r"|<[^<>\s]+>")
"How servers write the token that ends an answer: as nothing, or as the model's own marker, such as </s>."
Listing = Sequence[tuple[str, float]]
"The likeliest next tokens, each with its probability."


@dataclass(frozen=True)
class Naming:
    """What answers say about the options."""

    probabilities: tuple[float, ...]
    "[k], in the order of the options, sums to 1"
    mass: float
    "share of the answers that name an option, 0..1"


@dataclass(frozen=True)
class Untold:
    """The options cannot be told apart yet."""

    beginning: str
    "of an answer, after which the next token is to be known; empty: the first token is"


def by_tokens(listed: Mapping[str, Listing], options: Sequence[str]) -> Naming | Untold:
    """Read which tokens are likeliest at first (``listed[""]``) and after beginnings of an answer, as far as these are known.

    A token counts for the option that it begins ("Absol" for "Absolutely") or that it holds whole and followed by no letter or digit ("Yes."), with or without a
    blank before it; case matters. Of several beginnings of one option only the longest counts: a model writes a word in as few tokens as its vocabulary has for
    it, so a shorter one more likely begins something else. For the same reason one or two letters ("A") count at first only where they are the option's whole first word,
    and "1" does not begin "17" where "15" is listed as one token.
    Where several options have the same longest beginning ("Strongly", or "1" of "1" and "10"), its probability is multiplied by that of what follows it, up to the
    token from which on only one option is left; "1" itself is meant where the answer ends there. So an option's probability is exact where that token ends it, and an
    upper bound where more of it follows.

    A beginning that holds under :data:`LEAST_BRANCH` of what names an option need not be followed: its options share it evenly. The likeliest other one that is not followed
    yet is returned as :class:`Untold`.

    An option that no listed token begins has at most the smallest probability listed, and at most what all listed tokens leave. It gets a tenth of that, about the mean of
    a quantity whose logarithm is as likely anywhere in the four decades below its bound, and adds nothing to ``mass``.
    """
    if not listed.get(""):
        return Untold("")
    weights, mass, unknown = dict.fromkeys(options, 0.0), 0.0, list[tuple[float, str]]()
    waiting: list[tuple[str, float, Sequence[str]]] = [("", 1.0, options)]
    while waiting:
        beginning, share, among = waiting.pop()
        if not listed.get(beginning):
            unknown.append((share, beginning))
            mass += share
            weights |= {option: share / len(among) for option in among}
            continue
        said, rest = _read(listed[beginning], beginning, among)
        digits = max((len(text) for text in said if text.isdigit()), default=0)
        alike = defaultdict[str, list[str]](list)
        for option in among:
            alike[max((text for text in said if _begins(text, option, len(beginning), digits)), key=len, default="")].append(option)
        for text, those in alike.items():
            if not text:
                weights |= dict.fromkeys(those, share * rest)
            elif len(those) == 1:
                weights[those[0]] = share * said[text]
                mass += share * said[text]
            else:
                waiting.append((text, share * said[text], those))
    share, beginning = max(unknown, default=(0.0, ""))
    if beginning and share >= LEAST_BRANCH * mass:
        return Untold(beginning)
    found = [max(weights[option], LEAST) for option in options]
    return Naming(tuple(weight / sum(found) for weight in found), min(mass, 1.0))


def is_constrained(listing: Listing, beginning: str) -> bool:
    """Whether first tokens were listed only after all answers that do not start with ``beginning`` had been ruled out."""
    said = [token.lstrip() for token, probability in listing if probability > 0]
    return all(text.startswith(beginning) or beginning.startswith(text) for text in said)


def by_votes(texts: Sequence[str], options: Sequence[str]) -> Naming:
    """Count the answers that begin with an option, quotation marks and emphasis aside, in any case, and followed by no letter or digit.

    Of several such options ("Agree", "Agree strongly") the longest is meant. One more vote is spread evenly over the options, so that none has the probability 0:
    an option that v of n valid votes name has the probability (v + 1/k) / (n + 1).
    """
    votes = [0] * len(options)
    for text in texts:
        said = text.lstrip(" \n\t\"'“‘*_`(")
        fitting = [i for i, option in enumerate(options) if _names(said.casefold(), option.casefold())]
        if fitting:
            votes[max(fitting, key=lambda i: (len(options[i]), said.startswith(options[i])))] += 1
    valid = sum(votes)
    return Naming(tuple((vote + 1 / len(options)) / (valid + 1) for vote in votes), valid / len(texts) if texts else 0.0)


def _read(listing: Listing, beginning: str, options: Sequence[str]) -> tuple[dict[str, float], float]:
    """How likely which texts are after one more token, and the probability of an option that none of them begins."""
    said = defaultdict[str, float](float)
    longer = [option for option in options if len(option) > len(beginning)]
    for token, probability in listing:
        text = beginning + token if beginning else token.lstrip()
        if beginning and END.fullmatch(token):
            text = beginning
        elif not any(option.startswith(text) for option in options):
            text = max((option for option in longer if _names(text, option)), key=len, default=text)
        said[text] += probability
    return said, max(min(*(probability for _, probability in listing), 1 - sum(probability for _, probability in listing)), 0.0) / 10


def _begins(said: str, option: str, known: int, digits: int) -> bool:
    """Whether a text that goes on after ``known`` characters is the beginning of an option, and not likely that of something else.

    ``digits``: so long are the longest numbers beside it.
    """
    if said == option:
        return True
    if len(said) <= known or not option.startswith(said) or (option.isdigit() and len(said) < digits):
        return False
    ends_word = not option[len(said)].isalpha()
    return ends_word or known > 0 or not said.isalpha() or len(said.encode()) >= 3


def _names(said: str, option: str) -> bool:
    return said.startswith(option) and not said[len(option) : len(option) + 1].isalnum()
