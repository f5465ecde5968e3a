"""What every stage sees of a language model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

R = TypeVar("R")


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


Prompt = tuple[Message, ...]
"The turns of a chat up to the answer that is asked for."


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn."""

    max_tokens: int
    "the answer is cut after so many tokens"
    temperature: float = 0.0
    "0: always the likeliest token"
    top_p: float = 1.0
    "draw among the likeliest tokens that together reach this probability"
    top_k: int = 0
    "draw among so many of the likeliest tokens; 0: all"
    seed: int = 0
    "each prompt and repeat derives its own seed from this one, so its answer does not depend on its neighbours' seeds"
    stop: tuple[str, ...] = ()
    "the answer ends before the first of these strings"


@dataclass(frozen=True)
class Completion:
    """One written answer."""

    text: str
    "without the special tokens"
    finish: Literal["stop", "length"]
    "stop: the model ended or met a stop string; length: it was cut"
    prompt_tokens: int
    "tokens of the rendered prompt"
    completion_tokens: int
    "tokens of the answer"
    cut: int = 0
    "characters of the last turn that had to be left out to fit the context"


@dataclass(frozen=True)
class Choice:
    """How a model distributes an answer over given options."""

    probabilities: tuple[float, ...]
    "[k], in the order of the options, sums to 1"
    mass: float
    "probability of all options together among everything the model could have said, 0..1: how willing it was to choose"
    prompt_tokens: int
    "tokens of the rendered prompt"
    cut: int = 0
    "characters of the last turn that had to be left out to fit the context"


class LanguageModel(Protocol):
    """A model that answers whole batches, one result a prompt.

    Both methods yield ``(index of the prompt, result)`` as results become known, in any order, each index once.
    """

    @property
    def fingerprint(self) -> str:
        """Changes whenever the model could answer differently: weights, adapter, server and model name."""
        ...

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, repeats: Sequence[int] = ()) -> Iterator[tuple[int, Completion]]:
        """Write an answer to each prompt; ``repeats`` numbers those to the same prompt, from 0 on (default: all 0)."""
        ...

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Iterator[tuple[int, Choice]]:
        """Distribute the answer to each prompt over its ``options`` [prompts][k], without sampling.

        Each option is scored as a whole: the product of its tokens' probabilities, and, where one option begins another ("1", "10"), of
        the answer ending there.
        """
        ...


def several(model: LanguageModel, prompts: Sequence[Prompt], sampling: Sampling, n: int) -> list[list[Completion]]:
    """``n`` answers to each prompt, [prompts][n], all asked for at once."""
    answers = model.generate([prompt for prompt in prompts for _ in range(n)], sampling, [repeat for _ in prompts for repeat in range(n)])
    found = in_order(answers, len(prompts) * n)
    return [found[first : first + n] for first in range(0, len(found), n)]


def choices(model: LanguageModel, prompts: Sequence[Prompt], options: Sequence[str]) -> list[Choice]:
    """The answer to each prompt over the same ``options``, [prompts]."""
    return in_order(model.choose(prompts, [options] * len(prompts)), len(prompts))


def in_order(results: Iterator[tuple[int, R]], n: int) -> list[R]:
    """Collect the ``n`` results of :class:`LanguageModel` in the order of their prompts."""
    found = dict(results)
    return [found[index] for index in range(n)]
