"""llama.cpp in process: many sequences in one batch, a shared prefix evaluated once, adapters swapped without reloading.

llama-cpp-python's high-level class runs one sequence at a time, so this works on its low-level functions. Written answers are the same alone and in a
batch. Choices come from :mod:`stages.llm.forward` where the file is not quantised, and on a GPU written answers too; probabilities there depend very slightly on which
prompts share a batch (floating-point sums are taken in another order), and so, rarely, may a written text.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llama_cpp
import numpy as np
import psutil
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.files import sha256, short_hash
from stages.llm.choosing import ROOM, common_prefix, log_probabilities
from stages.llm.context import SEQUENCES, Context
from stages.llm.cutting import cut_at_sentence
from stages.llm.interface import Choice, Completion, Prompt, Sampling
from stages.llm.memory import LlamaMemory, Memory
from stages.llm.options import OptionTree
from stages.llm.sampling import draw, generator
from stages.llm.tokenizer import Tokenizer, load_model

if TYPE_CHECKING:
    from stages.llm.forward import Forward

VERSION = f"llama.cpp {llama_cpp.__version__} 7"
"Part of every fingerprint: to be changed with whatever changes answers here."
BEGINNING = 8
"Prompts are evaluated together: new answers begin when this part of the places is free."
GPUS = Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg")
"One of these is where Linux has a GPU that torch can use: NVIDIA's, AMD's, that of a surrounding Windows."
CELLS = 256
"Memory of a sequence comes in multiples of so many tokens."


class LlamaCpp:
    """A GGUF model, with at most one adapter attached at a time."""

    def __init__(self, file: Path, sequences: int = 64, context: int = 1024, device: str = "auto") -> None:
        """Load ``file``.

        Up to ``sequences`` answers (at most 255) are written side by side, each of up to ``context`` tokens (prompt and answer). ``device`` is where torch
        evaluates the model, if it does (:func:`stages.llm.forward.load`).

        :raises InputError: if the file is missing, llama.cpp cannot load it, or the memory does not suffice.
        """
        self.file, self.sequences, self.context = file, min(sequences, SEQUENCES - 1), context
        self.model = load_model(file)
        self.tokenizer = Tokenizer(self.model, file)
        self.base_fingerprint = self.fingerprint = short_hash(VERSION, sha256(file))
        self._device = device
        self._adapters: dict[Path, Any] = {}
        self._adapter: Any = None
        self._adapter_file: Path | None = None
        self._contexts: list[Context] = []
        try:
            self._fitting(self._shared_cells * bytes_per_cell(self.model), free_memory())
        except InputError:
            self.close()
            raise

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
        self._adapter, self._adapter_file, self.fingerprint = handle, adapter, fingerprint
        for context in self._contexts:
            context.attach(handle)

    def _context(self, sequences: int, cells: int, *, apart: bool) -> Context:
        """Memory as :class:`stages.llm.context.Context` says, for the adapter that is attached."""
        try:
            made = Context(self.model, sequences, cells, apart=apart)
        except MemoryError as error:
            raise self._too_large(str(error)) from error
        made.attach(self._adapter)
        self._contexts.append(made)
        return made

    @property
    def _shared_cells(self) -> int:
        """Tokens that choosing has in memory at most."""
        return self.context + ROOM

    def _fitting(self, size: int, free: int, least: int = 1) -> int:
        """How many texts of ``size`` bytes half of the ``free`` bytes hold.

        :raises InputError: if it is not the ``least`` number.
        """
        if free // 2 < least * size:
            raise self._too_large(f"the memory of a text needs {least * size / 2**20:.0f} MiB, and half of what is free is {free / 2**21:.0f} MiB")
        return free // 2 // size

    def _too_large(self, problem: str) -> InputError:
        return InputError(f"{self.file}: {problem}. Lower the context in params.yaml, or end other programs.")

    def close(self) -> None:
        """Free the model; llama.cpp complains if the interpreter ends before."""
        while self._contexts:
            self._contexts.pop().free()
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

    # ---- writing answers

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, repeats: Sequence[int] = ()) -> Iterator[tuple[int, Completion]]:
        """See :class:`stages.llm.interface.LanguageModel`. New answers start as places become free."""
        if sampling.max_tokens >= self.context // 2:
            raise InputError(f"answers of {sampling.max_tokens} tokens leave no room for prompts within a context of {self.context}. Raise it in params.yaml.")
        prepared = [self._prompt_tokens(prompt, self.context - sampling.max_tokens) for prompt in prompts]
        waiting = sorted(((tokens, index, cut) for index, (tokens, cut) in enumerate(prepared)), reverse=True)  # taken from the end: each begins much as the one before
        if not waiting:
            return
        shared, longest = waiting[0][0][: common_prefix([tokens for tokens, _, _ in waiting])], max(len(tokens) for tokens, _, _ in waiting) + sampling.max_tokens
        running = list[_Answer]()  # each at its place in memory
        with self._memory(len(waiting), longest, shared) as memory:
            while waiting or running:
                room = memory.places - len(running)
                if waiting and room >= min(len(waiting), -(-memory.places // BEGINNING)):
                    new = [
                        _Answer(index, tokens, cut, generator(sampling, repeats[index] if repeats else 0, tokens), tokens[-1])
                        for tokens, index, cut in (waiting.pop() for _ in range(min(room, len(waiting))))
                    ]
                    memory.begin(len(running), [answer.prompt[:-1] for answer in new])
                    running += new
                logits = memory.follow([answer.last for answer in running])
                for place, answer in reversed(list(enumerate(running))):
                    completion = self._step(answer, sampling, logits[place])
                    if completion:
                        moved = running.pop()
                        if moved is not answer:
                            running[place] = moved
                            memory.move(len(running), place)
                        yield answer.index, completion

    @contextmanager
    def _memory(self, places: int, length: int, shared: list[int]) -> Iterator[Memory]:
        """Memory for up to ``places`` texts of up to ``length`` tokens, all of which begin with ``shared``: as many as are wanted and fit."""
        if self._writer:
            from stages.llm.forward_memory import ForwardMemory  # noqa: PLC0415  # imports torch

            self._writer.attach(self._adapter_file)
            fitting = self._fitting(length * ForwardMemory.bytes_per_token(self._writer), self._writer.free_memory)
            yield ForwardMemory(self._writer, min(places, self.sequences, fitting), length, shared)
        else:
            with self._apart(places + 1, length) as context:
                yield LlamaMemory(context, shared)

    @contextmanager
    def _apart(self, sequences: int, length: int) -> Iterator[Context]:
        """llama.cpp's memory for up to ``sequences`` of up to ``length`` tokens each, as many as are wanted and fit."""
        cells = -(-length // CELLS) * CELLS
        context = self._context(min(sequences, self.sequences + 1, self._fitting(cells * bytes_per_cell(self.model), free_memory(), 2)), cells, apart=True)
        try:
            yield context
        finally:
            if context in self._contexts:  # else the model was closed while answers were still being written, and freed it
                self._contexts.remove(context)
                context.free()

    def _step(self, answer: "_Answer", sampling: Sampling, logits: NDArray[np.float32]) -> Completion | None:
        """Draw the next token of ``answer`` from ``logits`` [v]; its completion if that ended it."""
        token = draw(logits, sampling, answer.random)
        ended = token in self.tokenizer.ending
        if not ended:
            answer.text += self.tokenizer.piece(token)
            answer.last, answer.count = token, answer.count + 1
        text = answer.text.decode(errors="replace")
        stops = [text.index(stop) for stop in sampling.stop if stop in text]
        if stops:
            text, ended = text[: min(stops)], True
        if ended or answer.count >= sampling.max_tokens:
            return Completion(text, "stop" if ended else "length", len(answer.prompt), answer.count, answer.cut)
        return None

    # ---- choosing among options

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Iterator[tuple[int, Choice]]:
        """See :class:`stages.llm.interface.LanguageModel`. Prompts and all options of several tokens are evaluated in one go, in torch where it can."""
        known = {own: OptionTree([self.tokenizer.tokens(option, special=False) for option in own], self.tokenizer.ending) for own in set(map(tuple, options))}
        trees = [known[tuple(own)] for own in options]
        prepared = [self._prompt_tokens(prompt, self.context - tree.depth) for prompt, tree in zip(prompts, trees, strict=True)]
        if not prepared:
            return
        for index, logs in self._log_probabilities([tokens for tokens, _ in prepared], trees):
            weights, mass = np.exp(logs - logs.max()), float(np.exp(logs).sum())
            tokens, cut = prepared[index]
            yield index, Choice(tuple((weights / weights.sum()).tolist()), min(mass, 1.0), len(tokens), cut)

    def _log_probabilities(self, prompts: Sequence[list[int]], trees: Sequence[OptionTree]) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """The index of each prompt (token ids) and the log-probabilities [k] of its options; llama.cpp takes prompts with the same options together."""
        if self._forward:
            self._forward.attach(self._adapter_file)
            yield from self._forward.log_probabilities(prompts, trees)
            return
        for tree in dict.fromkeys(trees):
            places = [place for place, own in enumerate(trees) if own is tree]
            yield from ((places[i], logs) for i, logs in log_probabilities(self._choosing, [prompts[place] for place in places], tree))

    @cached_property
    def _choosing(self) -> Context:
        return self._context(SEQUENCES, self._shared_cells, apart=False)

    @cached_property
    def _forward(self) -> "Forward | None":
        from stages.llm import forward  # noqa: PLC0415  # torch takes seconds to import, and those who write do not need it

        return forward.load(self.file, self._device)

    @cached_property
    def _writer(self) -> "Forward | None":
        """What writes instead of llama.cpp, on a GPU; without one torch is not even imported."""
        if self._device == "cpu" or (self._device == "auto" and sys.platform == "linux" and not any(map(Path.exists, GPUS))):
            return None
        return self._forward if self._forward and self._forward.device.type != "cpu" else None


@dataclass(eq=False)
class _Answer:
    """An answer being written."""

    index: int
    prompt: list[int]
    "its tokens"
    cut: int
    random: np.random.Generator
    last: int
    "the token to evaluate next"
    count: int = 0
    text: bytes = b""


def free_memory() -> int:
    """Bytes that programs may still take."""
    return int(psutil.virtual_memory().available)


def bytes_per_cell(model: Any) -> int:
    """Memory that one token of a sequence takes: a key and a value of 2-byte numbers in each layer."""
    head = llama_cpp.llama_model_n_embd(model) // llama_cpp.llama_model_n_head(model)
    return int(llama_cpp.llama_model_n_layer(model) * llama_cpp.llama_model_n_head_kv(model) * head * 2 * 2)
