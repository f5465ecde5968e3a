"""What a stage's answers took.

Counted is what a stage used, whether the response cache held it or not, so that two equal runs report equal figures.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from stages.core.files import sha256
from stages.core.progress import Progress
from stages.llm.cache import Cached
from stages.llm.interface import Choice, Completion, Prompt, Sampling

A = TypeVar("A", Completion, Choice)


@dataclass
class Usage:
    """Sums over answers."""

    answers: int = 0
    prompt_tokens: int = 0
    "of rendered prompts, with what they share"
    completion_tokens: int = 0
    cut: int = 0
    "answers whose prompt had to be shortened to fit"

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, answer: Completion | Choice) -> None:
        """Count one answer."""
        self.answers += 1
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens if isinstance(answer, Completion) else 0
        self.cut += answer.cut > 0


class Metered:
    """A language model behind its cache that counts what is taken from it and shows how far it is."""

    def __init__(self, model: Cached, what: str, total: int = 0) -> None:
        """Count the answers of ``model``; ``what`` is being done, with ``total`` answers in all, if that is more than one call asks for."""
        self.model, self.what, self.total, self.usage = model, what, total, Usage()
        self._hits, self._new_tokens, self._start = 0, 0, time.monotonic()
        self._bar: Progress | None = None

    @property
    def fingerprint(self) -> str:
        """See :class:`stages.llm.interface.LanguageModel`."""
        return self.model.fingerprint

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, repeats: Sequence[int] = ()) -> Iterator[tuple[int, Completion]]:
        """See :class:`stages.llm.interface.LanguageModel`."""
        return self._count(self.model.generate(prompts, sampling, repeats), len(prompts))

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Iterator[tuple[int, Choice]]:
        """See :class:`stages.llm.interface.LanguageModel`."""
        return self._count(self.model.choose(prompts, options), len(prompts))

    def _count(self, answers: Iterator[tuple[int, A]], n: int) -> Iterator[tuple[int, A]]:
        self._bar = self._bar or Progress(self.what, self.total or n, "answers")
        for index, answer in answers:
            hits, before = self.model.hits, self.usage.tokens
            self.usage.add(answer)
            if hits == self._hits:
                self._new_tokens += self.usage.tokens - before
            self._hits = hits
            rate = self._new_tokens / max(1e-9, time.monotonic() - self._start)
            self._bar.add(1, cached=f"{hits / self.usage.answers:.0%}", tokens=f"{rate:.0f}/s")
            yield index, answer

    def close(self) -> None:
        """End the progress line and say how much was there already."""
        if self._bar:
            self._bar.close()
            print(f"{self.what}: {self.usage.answers} answers, {self.model.hits} of them from the response cache", file=sys.stderr)

    def provenance(self, prompt_file: Path) -> dict[str, str | int]:
        """For the table that the answers go into: model, prompt file and usage."""
        return {"model": self.fingerprint, "prompt": sha256(prompt_file)[:16], **asdict(self.usage)}
