"""llama.cpp in process: many sequences in one batch, a shared prefix evaluated once, adapters swapped without reloading.

llama-cpp-python's high-level class runs one sequence at a time, so this works on its low-level functions. Results depend very slightly on
which prompts share a batch (floating-point sums are taken in another order), not on their order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import psutil

from stages.errors import InputError
from stages.files import sha256, short_hash
from stages.llm.context import BATCH, SEQUENCES, Batch, Context
from stages.llm.cutting import cut_at_sentence
from stages.llm.interface import Choice, Completion, Prompt, Sampling
from stages.llm.options import OptionTree, Tokens
from stages.llm.sampling import draw, generator
from stages.llm.tokenizer import Tokenizer, load_model

VERSION = f"llama.cpp {llama_cpp.__version__} 2"
"Part of every fingerprint: to be changed with whatever changes answers here."
LENGTHS = 8
"Memory holds so many answers of full length, or many more short ones, if there is enough."


class LlamaCpp:
    """A GGUF model, with at most one adapter attached at a time."""

    def __init__(self, file: Path, sequences: int = 32, context: int = 1024) -> None:
        """Load ``file``.

        Up to ``sequences`` answers (at most 255) are written side by side, each of up to ``context`` tokens (prompt and answer).

        :raises InputError: if the file is missing, llama.cpp cannot load it, or the memory does not suffice.
        """
        self.file, self.sequences, self.context = file, min(sequences, SEQUENCES - 1), context
        self.model = load_model(file)
        self.tokenizer = Tokenizer(self.model, file)
        self.base_fingerprint = self.fingerprint = short_hash(VERSION, sha256(file))
        self._adapters: dict[Path, Any] = {}
        try:
            self._cells = _cells(context, bytes_per_cell(self.model), psutil.virtual_memory().available)
            self._context = Context(self.model, self._cells)
        except MemoryError as error:
            llama_cpp.llama_model_free(self.model)
            raise InputError(f"{file}: {error}. Lower the context in params.yaml, or end other programs.") from error

    def attach(self, adapter: Path | None) -> None:
        """Answer from here on with a LoRA ``adapter`` (GGUF) on top of the base, or with the base alone.

        :raises InputError: if llama.cpp cannot load the adapter for this base.
        """
        handle, fingerprint = None, self.base_fingerprint
        if adapter:
            if adapter not in self._adapters:
                handle = llama_cpp.llama_adapter_lora_init(self.model, str(adapter).encode()) if adapter.exists() else None
                if not handle:
                    raise InputError(f"{adapter}: is no adapter that fits {self.file}. Delete its folder and run `dvc repro`.")
                self._adapters[adapter] = handle
            handle = self._adapters[adapter]
            fingerprint = short_hash(self.base_fingerprint, sha256(adapter))
        self._context.attach(handle)
        self.fingerprint = fingerprint

    def close(self) -> None:
        """Free the model; llama.cpp complains if the interpreter ends before."""
        self._context.free()
        llama_cpp.llama_model_free(self.model)

    def __enter__(self) -> "LlamaCpp":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prompt_tokens(self, prompt: Prompt, room: int) -> tuple[list[int], int]:
        """Tokens of a rendered prompt, at most ``room``; the last turn is cut at a sentence until they fit, and by how many characters."""
        tokens, cut = self.tokenizer.tokens(self.tokenizer.render(prompt)), 0
        while len(tokens) > room:
            last = prompt[-1].content
            shorter = cut_at_sentence(last, len(last) * room // len(tokens) - 16)
            if not shorter:
                raise InputError(f"a prompt of {len(tokens)} tokens leaves no room for the text it asks about. Raise the context in params.yaml or shorten the examples.")
            cut += len(last) - len(shorter)
            prompt = (*prompt[:-1], type(prompt[-1])(prompt[-1].role, shorter))
            tokens = self.tokenizer.tokens(self.tokenizer.render(prompt))
        return tokens, cut

    def _share_prefix(self, prompts: Sequence[list[int]]) -> int:
        """Forget everything, then evaluate what all prompts begin with, once, as sequence 0; how many tokens that is."""
        self._context.clear()
        shared = common_prefix(prompts)
        if shared:
            self._context.extend(0, prompts[0][:shared], 0)
        return shared

    # ---- writing answers

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, repeat: int = 0) -> Iterator[tuple[int, Completion]]:
        """See :class:`stages.llm.interface.LanguageModel`. A new answer starts as soon as another ends."""
        if sampling.max_tokens >= self.context // 2:
            raise InputError(f"answers of {sampling.max_tokens} tokens leave no room for prompts within a context of {self.context}. Raise it in params.yaml.")
        waiting = [(index, *self._prompt_tokens(prompt, self.context - sampling.max_tokens)) for index, prompt in enumerate(prompts)]
        waiting.sort(key=lambda entry: (-len(entry[1]), entry[0]))
        shared = self._share_prefix([tokens for _, tokens, _ in waiting])
        batch, free, running = Batch(), list(range(self.sequences, 0, -1)), list[_Answer]()  # sequence 0 holds the shared prefix
        cells = self._cells - shared
        while waiting or running:
            batch.clear()
            running.sort(key=lambda answer: answer.sequence)  # llama.cpp evaluates runs of neighbouring sequences together
            for answer in running:
                answer.row = batch.add(answer.last, answer.position, [answer.sequence], logits=True)
            while waiting and free and batch.size < BATCH and cells >= len(waiting[-1][1]) - shared + sampling.max_tokens:
                index, tokens, cut = waiting.pop()
                cells -= len(tokens) - shared + sampling.max_tokens
                answer = _Answer(index, free.pop(), len(tokens), cut, generator(sampling, repeat, tokens))
                self._context.copy(0, answer.sequence)
                rest = tokens[shared:]
                if len(rest) > BATCH - batch.size:  # all but the last token in batches of its own
                    self._context.extend(answer.sequence, rest[:-1], shared)
                    rest = rest[-1:]
                for position, token in enumerate(rest, len(tokens) - len(rest)):
                    answer.row = batch.add(token, position, [answer.sequence], logits=position == len(tokens) - 1)
                running.append(answer)
            self._context.evaluate(batch)
            for answer in list(running):
                completion = self._step(answer, sampling)
                if completion:
                    running.remove(answer)
                    self._context.forget(answer.sequence)
                    cells += answer.prompt_tokens - shared + sampling.max_tokens
                    free.append(answer.sequence)
                    free.sort(reverse=True)
                    yield answer.index, completion

    def _step(self, answer: "_Answer", sampling: Sampling) -> Completion | None:
        """Draw the next token of ``answer``; its completion if that ended it."""
        token = draw(self._context.logits(answer.row), sampling, answer.random)
        ended = token in self.tokenizer.ending
        if not ended:
            answer.text += self.tokenizer.piece(token)
            answer.position += answer.count > 0
            answer.last, answer.count = token, answer.count + 1
        text = answer.text.decode(errors="replace")
        stops = [text.index(stop) for stop in sampling.stop if stop in text]
        if stops:
            text, ended = text[: min(stops)], True
        if ended or answer.count >= sampling.max_tokens:
            return Completion(text, "stop" if ended else "length", answer.prompt_tokens, answer.count, answer.cut)
        return None

    # ---- choosing among options

    def choose(self, prompts: Sequence[Prompt], options: Sequence[str]) -> Iterator[tuple[int, Choice]]:
        """See :class:`stages.llm.interface.LanguageModel`. Prompt and all options of several tokens are evaluated in one go."""
        tree = OptionTree([self.tokenizer.tokens(option, special=False) for option in options], self.tokenizer.ending)
        prepared = [self._prompt_tokens(prompt, self.context - tree.depth) for prompt in prompts]
        shared = self._share_prefix([tokens for tokens, _ in prepared])
        for group in _groups([(index, len(tokens) - shared) for index, (tokens, _) in enumerate(prepared)], tree):
            found: dict[int, dict[tuple[Tokens, int], float]] = {index: {} for index in group}
            for part in _parts(tree.branches, len(group)):
                self._follow([prepared[index][0] for index in group], shared, part, tree, [found[index] for index in group])
            for index in group:
                logs = tree.log_probabilities(found[index])
                weights, mass = np.exp(logs - logs.max()), float(np.exp(logs).sum())
                tokens, cut = prepared[index]
                yield index, Choice(tuple((weights / weights.sum()).tolist()), min(mass, 1.0), len(tokens), cut)

    def _follow(self, prompts: Sequence[Sequence[int]], shared: int, branches: Sequence[Tokens], tree: OptionTree, found: Sequence[dict[tuple[Tokens, int], float]]) -> None:
        """Evaluate each prompt once and each branch after it as a sequence of its own; the wanted log-probabilities go to ``found``."""
        context, queue, used = self._context, list[_Node](), 1
        for tokens, logs in zip(prompts, found, strict=True):
            sequences = range(used, used + len(branches))
            used += len(branches)
            queue += [_Node(token, position, sequences, logs, None) for position, token in enumerate(tokens[shared:], shared)]
            queue[-1].beginning = ()
            for sequence, branch in zip(sequences, branches, strict=True):
                queue += [_Node(token, len(tokens) + n, (sequence,), logs, branch[: n + 1]) for n, token in enumerate(branch)]
        for sequence in range(1, used):
            context.copy(0, sequence)
        batch = Batch()
        for first in range(0, len(queue), BATCH):
            batch.clear()
            for node in queue[first : first + BATCH]:
                batch.add(node.token, node.position, node.sequences, logits=node.beginning is not None)
            context.evaluate(batch)
            for row, node in enumerate(queue[first : first + BATCH]):
                if node.beginning is not None:
                    logits = context.logits(row)
                    total = float(logits.max()) + float(np.log(np.exp(logits - logits.max()).sum(dtype=np.float64)))
                    node.found |= {(node.beginning, token): float(logits[token]) - total for token in tree.wanted[node.beginning]}
        for sequence in range(1, used):
            context.forget(sequence)


@dataclass
class _Answer:
    """An answer being written."""

    index: int
    sequence: int
    prompt_tokens: int
    cut: int
    random: np.random.Generator
    row: int = 0
    "where in the last batch its logits are"
    last: int = 0
    count: int = 0
    text: bytes = b""
    position: int = field(init=False)
    "of the token in ``last``"

    def __post_init__(self) -> None:
        self.position = self.prompt_tokens


@dataclass
class _Node:
    """A token of a prompt or of options after it."""

    token: int
    position: int
    sequences: Sequence[int]
    found: dict[tuple[Tokens, int], float]
    beginning: Tokens | None
    "the beginning of options that ends with it; none if nothing is read there"


def bytes_per_cell(model: Any) -> int:
    """Memory that one token of a sequence takes: a key and a value of 2-byte numbers in each layer."""
    head = llama_cpp.llama_model_n_embd(model) // llama_cpp.llama_model_n_head(model)
    return int(llama_cpp.llama_model_n_layer(model) * llama_cpp.llama_model_n_head_kv(model) * head * 2 * 2)


def _cells(context: int, size: int, free: int) -> int:
    """Tokens to hold at once: room for several answers of ``context`` tokens, within half of the ``free`` bytes at ``size`` bytes each.

    :raises MemoryError: if not even one answer fits.
    """
    least = context + 2 * BATCH
    fitting = free // 2 // size
    if fitting < least:
        raise MemoryError(f"a context of {context} tokens needs {least * size / 2**20:.0f} MiB, and half of the free memory is {free / 2 / 2**20:.0f} MiB")
    return min(max(LENGTHS * context, least), fitting)


def _groups(lengths: Iterable[tuple[int, int]], tree: OptionTree) -> Iterator[list[int]]:
    """Prompts (index, length) in groups that one batch can hold with their branches; a longer one makes a group of its own."""
    extra, group, room = sum(map(len, tree.branches)), list[int](), 0
    for index, length in sorted(lengths, key=lambda entry: (entry[1], entry[0])):
        need = length + extra
        if group and (need > room or (len(group) + 1) * len(tree.branches) >= SEQUENCES):
            yield group
            group = []
        room = (room if group else BATCH) - need
        group.append(index)
    if group:
        yield group


def _parts(branches: Sequence[Tokens], prompts: int) -> Iterator[Sequence[Tokens]]:
    """``branches`` in parts that sequences and cells suffice for."""
    longest = max(map(len, branches))
    size = max(1, min((SEQUENCES - 1) // prompts, BATCH // max(1, longest * prompts)))
    for first in range(0, len(branches), size):
        yield branches[first : first + size]


def common_prefix(sequences: Sequence[list[int]]) -> int:
    """How many first tokens all share, leaving each at least one of its own."""
    if not sequences:
        return 0
    low, high = min(sequences), max(sequences)
    limit = min(map(len, sequences)) - 1
    return next((i for i in range(limit) if low[i] != high[i]), limit)
