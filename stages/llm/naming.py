"""Which of the given options an answer names: read from the probabilities of its first token, or counted over several answers."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

LEAST = 1e-9
"Every option gets at least this probability, so that ratios stay finite."


@dataclass(frozen=True)
class Naming:
    """What answers say about the options."""

    probabilities: tuple[float, ...]
    "[k], in the order of the options, sums to 1"
    mass: float
    "share of the answers that name an option, 0..1"


def by_first_token(listed: Sequence[tuple[str, float]], options: Sequence[str]) -> Naming | None:
    """Read the likeliest first tokens of an answer, each with its probability; nothing if they do not tell the options apart.

    A token counts for the option that it begins ("Absol" for "Absolutely") or that it holds whole and followed by no letter or digit ("Yes."), with or without a
    blank before it; case matters. Of several beginnings of one option only the longest counts: a model writes a word in as few tokens as its vocabulary has for
    it, so a shorter one more likely begins something else. For the same reason one or two letters ("A") count only where they are the option's whole first word.
    The option's probability is that of its first token: exact where an option is one token, and an upper bound where it is several.

    An option that no listed token begins has at most the smallest probability listed, and at most what all listed tokens leave. It gets a tenth of that, about the mean of
    a quantity whose logarithm is as likely anywhere in the four decades below its bound, and adds nothing to ``mass``. Where two options have the same longest
    beginning ("Strongly", or "1" of "1" and "10"), nothing is returned.
    """
    found: dict[str, float] = defaultdict(float)
    for token, probability in listed:
        said = token.lstrip()
        found[max((option for option in options if _names(said, option)), key=len, default=said)] += probability
    begins = [max((said for said in found if _begins(said, option)), key=len, default="") for option in options]
    known = [said for said in begins if said]
    if not listed or len(set(known)) < len(known):
        return None
    rest = min(*(probability for _, probability in listed), 1 - sum(probability for _, probability in listed)) / 10
    weights = [max(found[said] if said else rest, LEAST) for said in begins]
    return Naming(tuple(weight / sum(weights) for weight in weights), min(sum((found[said] for said in known), 0.0), 1.0))


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


def _begins(said: str, option: str) -> bool:
    """Whether a token is the beginning of an option, and not likely that of something else."""
    if not said or not option.startswith(said):
        return False
    ends_word = not option[len(said) : len(said) + 1].isalpha()
    return ends_word or not said.isalpha() or len(said.encode()) >= 3


def _names(said: str, option: str) -> bool:
    return said.startswith(option) and not said[len(option) : len(option) + 1].isalnum()
