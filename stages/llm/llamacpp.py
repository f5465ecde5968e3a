"""llama.cpp in process: many sequences in one batch, a shared prefix evaluated once, adapters swapped without reloading.

llama-cpp-python's high-level class runs one sequence at a time, so this works on its low-level functions. Results depend very slightly on
which prompts share a batch (floating-point sums are taken in another order), not on their order.
"""

import ctypes
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from stages.errors import InputError
from stages.files import sha256, short_hash
from stages.llm.interface import Choice, Completion, Prompt, Sampling
from stages.llm.tokenizer import Tokenizer, load_model

BATCH = 512  # tokens evaluated at once: more does not run faster on a CPU and takes more memory


class LlamaCpp:
    """A GGUF model, with at most one adapter attached at a time."""

    def __init__(self, file: Path, sequences: int = 32, context: int = 1024) -> None:
        """Load ``file``.

        Up to ``sequences`` answers are written side by side, each with memory for ``context`` tokens (prompt and answer).

        :raises InputError: if the file is missing, llama.cpp cannot load it, or the memory does not suffice.
        """
        self.file, self.sequences, self.context = file, sequences, context
        self.model = load_model(file)
        self.tokenizer = Tokenizer(self.model, file)
        self.vocab = self.tokenizer.vocab
        self.base_fingerprint = self.fingerprint = sha256(file)
        self._adapters: dict[Path, Any] = {}
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = (sequences + 1) * context, sequences + 1  # sequence 0 holds the shared prefix
        params.n_batch = params.n_ubatch = BATCH
        params.kv_unified = False  # each sequence attends to its own cells only, not to a masked pool of all
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.n_threads = params.n_threads_batch = len(os.sched_getaffinity(0))
        self._context = llama_cpp.llama_init_from_model(self.model, params)
        if not self._context:
            raise InputError(f"{file}: no memory for {sequences} sequences of {context} tokens. Lower runtime.sequences in params.yaml.")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch, self._side_batch = _Batch(BATCH), _Batch(BATCH)

    def attach(self, adapter: Path | None) -> None:
        """Answer from here on with a LoRA ``adapter`` (GGUF) on top of the base, or with the base alone.

        :raises InputError: if llama.cpp cannot load the adapter for this base.
        """
        handles, fingerprint = [], self.base_fingerprint
        if adapter:
            if adapter not in self._adapters:
                handle = llama_cpp.llama_adapter_lora_init(self.model, str(adapter).encode()) if adapter.exists() else None
                if not handle:
                    raise InputError(f"{adapter}: is no adapter that fits {self.file}. Delete its folder and run `dvc repro`.")
                self._adapters[adapter] = handle
            handles = [self._adapters[adapter]]
            fingerprint = short_hash(self.base_fingerprint, sha256(adapter))
        pointers = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(*handles) if handles else None
        scales = (ctypes.c_float * 1)(1.0) if handles else None
        llama_cpp.llama_set_adapters_lora(self._context, pointers, len(handles), scales)
        self.fingerprint = fingerprint

    def close(self) -> None:
        """Free the model; llama.cpp complains if the interpreter ends before."""
        self._batch.free()
        self._side_batch.free()
        llama_cpp.llama_free(self._context)
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
            shorter = _cut_at_sentence(last, len(last) * room // len(tokens) - 16)
            if not shorter:
                raise InputError(f"a prompt of {len(tokens)} tokens leaves no room for the text it asks about. Raise runtime.context or shorten its examples.")
            cut += len(last) - len(shorter)
            prompt = (*prompt[:-1], type(prompt[-1])(prompt[-1].role, shorter))
            tokens = self.tokenizer.tokens(self.tokenizer.render(prompt))
        return tokens, cut

    def _share_prefix(self, prompts: Sequence[list[int]]) -> int:
        """Evaluate what all prompts begin with, once, as sequence 0; how many tokens that is."""
        llama_cpp.llama_memory_clear(self._memory, False)
        shared = _common_prefix(prompts)
        if shared:
            self._evaluate(prompts[0][:shared], 0, 0)
        return shared

    def _start_sequence(self, sequence: int, shared: int) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        if shared:
            llama_cpp.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)

    def _evaluate(self, tokens: list[int], start: int, sequence: int) -> None:
        for first in range(0, len(tokens), BATCH):
            self._side_batch.clear()
            for i, token in enumerate(tokens[first : first + BATCH], first):
                self._side_batch.add(token, start + i, sequence, logits=False)
            self._side_batch.decode(self._context)

    # ---- writing answers

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, repeat: int = 0) -> Iterator[tuple[int, Completion]]:
        """See :class:`stages.llm.interface.LanguageModel`. A new answer starts as soon as another ends."""
        if sampling.max_tokens >= self.context // 2:
            raise InputError(f"answers of {sampling.max_tokens} tokens leave no room for prompts within runtime.context {self.context}. Raise it.")
        waiting = [(index, *self._prompt_tokens(prompt, self.context - sampling.max_tokens)) for index, prompt in enumerate(prompts)]
        waiting.sort(key=lambda entry: (-len(entry[1]), entry[0]))
        shared = self._share_prefix([tokens for _, tokens, _ in waiting])
        free, running = list(range(self.sequences, 0, -1)), list[_Answer]()
        try:
            while waiting or running:
                self._batch.clear()
                running.sort(key=lambda answer: answer.sequence)  # llama.cpp evaluates runs of neighbouring sequences together
                for answer in running:
                    answer.row = self._batch.add(answer.last, answer.position, answer.sequence, logits=True)
                while waiting and free and self._batch.size < BATCH:
                    index, tokens, cut = waiting.pop()
                    answer = _Answer(index, free.pop(), len(tokens), cut)
                    self._start_sequence(answer.sequence, shared)
                    rest = tokens[shared:]
                    if len(rest) > BATCH - self._batch.size:  # all but the last token in batches of its own
                        self._evaluate(rest[:-1], shared, answer.sequence)
                        rest = rest[-1:]
                    for position, token in enumerate(rest, len(tokens) - len(rest)):
                        answer.row = self._batch.add(token, position, answer.sequence, logits=position == len(tokens) - 1)
                    answer.sampler = _sampler(sampling, tokens, repeat)
                    running.append(answer)
                self._batch.decode(self._context)
                for answer in list(running):
                    completion = self._step(answer, sampling)
                    if completion:
                        running.remove(answer)
                        free.append(answer.sequence)
                        free.sort(reverse=True)
                        llama_cpp.llama_sampler_free(answer.sampler)
                        yield answer.index, completion
        finally:
            for answer in running:
                llama_cpp.llama_sampler_free(answer.sampler)

    def _step(self, answer: "_Answer", sampling: Sampling) -> Completion | None:
        """Draw the next token of ``answer``; its completion if that ended it."""
        token = llama_cpp.llama_sampler_sample(answer.sampler, self._context, answer.row)
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
        """See :class:`stages.llm.interface.LanguageModel`. What all prompts begin with is evaluated once."""
        tree = _OptionTree([self.tokenizer.tokens(option, special=False) for option in options])
        prepared = [self._prompt_tokens(prompt, self.context - tree.depth) for prompt in prompts]
        shared = self._share_prefix([tokens for tokens, _ in prepared])
        order = sorted(range(len(prompts)), key=lambda index: len(prepared[index][0]))
        while order:
            group, order = order[: self.sequences], order[self.sequences :]
            for index, logs in zip(group, self._score([prepared[i][0] for i in group], shared, tree), strict=True):
                weights, mass = np.exp(logs - logs.max()), float(np.exp(logs).sum())
                tokens, cut = prepared[index]
                yield index, Choice(tuple((weights / weights.sum()).tolist()), min(mass, 1.0), len(tokens), cut)

    def _score(self, prompts: list[list[int]], shared: int, tree: "_OptionTree") -> list[np.ndarray]:
        """Log-probability of each option after each prompt: arrays [k]."""
        for sequence in range(1, len(prompts) + 1):
            self._start_sequence(sequence, shared)
        ends = self._last_logits({sequence: (prompt[shared:], shared) for sequence, prompt in enumerate(prompts, 1)})
        logs: dict[int, dict[tuple[int, ...], np.ndarray]] = {sequence: {(): row} for sequence, row in ends.items()}
        for branch in tree.branches:  # options of several tokens: follow one beginning at a time, for all prompts together
            for sequence, prompt in enumerate(prompts, 1):
                llama_cpp.llama_memory_seq_rm(self._memory, sequence, len(prompt), -1)
            ends = self._last_logits({sequence: (list(branch), len(prompt)) for sequence, prompt in enumerate(prompts, 1)})
            for sequence, row in ends.items():
                logs[sequence][branch] = row
        ending = self.tokenizer.ending if tree.ambiguous else []
        return [tree.log_probabilities(logs[sequence], ending) for sequence in range(1, len(prompts) + 1)]

    def _last_logits(self, parts: dict[int, tuple[list[int], int]]) -> dict[int, np.ndarray]:
        """Evaluate for each sequence its (tokens, first position), filling batches across sequences; log-probabilities [v] after the last."""
        queue = [(sequence, token, start + i, i == len(tokens) - 1) for sequence, (tokens, start) in parts.items() for i, token in enumerate(tokens)]
        found: dict[int, np.ndarray] = {}
        for first in range(0, len(queue), BATCH):
            self._batch.clear()
            entries = queue[first : first + BATCH]
            for sequence, token, position, last in entries:
                self._batch.add(token, position, sequence, logits=last)
            self._batch.decode(self._context)
            for row, (sequence, _, _, last) in enumerate(entries):
                if last:
                    found[sequence] = self._log_softmax(row)
        return found

    def _log_softmax(self, row: int) -> np.ndarray:
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        logits = np.ctypeslib.as_array(pointer, shape=(self.tokenizer.size,)).astype(np.float64)
        logits -= logits.max()
        return np.asarray(logits - np.log(np.exp(logits).sum()))


@dataclass
class _Answer:
    """An answer being written."""

    index: int
    sequence: int
    prompt_tokens: int
    cut: int
    sampler: Any = None
    row: int = 0
    "where in the last batch its logits are"
    last: int = 0
    count: int = 0
    text: bytes = b""
    position: int = field(init=False)
    "of the token in ``last``"

    def __post_init__(self) -> None:
        self.position = self.prompt_tokens


class _Batch:
    """A llama_batch that is filled again and again."""

    def __init__(self, size: int) -> None:
        self.raw = llama_cpp.llama_batch_init(size, 0, 1)

    @property
    def size(self) -> int:
        return int(self.raw.n_tokens)

    def clear(self) -> None:
        self.raw.n_tokens = 0

    def add(self, token: int, position: int, sequence: int, *, logits: bool) -> int:
        row = self.size
        self.raw.token[row], self.raw.pos[row], self.raw.logits[row] = token, position, logits
        self.raw.n_seq_id[row], self.raw.seq_id[row][0] = 1, sequence
        self.raw.n_tokens = row + 1
        return row

    def decode(self, context: Any) -> None:
        code = llama_cpp.llama_decode(context, self.raw)
        if code:
            raise RuntimeError(f"llama_decode ended with {code}")

    def free(self) -> None:
        llama_cpp.llama_batch_free(self.raw)


class _OptionTree:
    """Options as token sequences that share beginnings."""

    def __init__(self, options: list[list[int]]) -> None:
        self.options = [tuple(option) for option in options]
        if not all(self.options) or len(set(self.options)) < len(self.options):
            raise ValueError("options must differ and not be empty")
        inner = {option[:n] for option in self.options for n in range(1, len(option))}
        self.ambiguous = inner & set(self.options)
        self.branches = sorted(inner)
        self.depth = max(map(len, self.options))

    def log_probabilities(self, logs: dict[tuple[int, ...], np.ndarray], ending: list[int]) -> np.ndarray:
        """Log-probability [k] of each option from the log-probabilities [v] after every beginning."""
        found = []
        for option in self.options:
            value = sum(float(logs[option[:n]][token]) for n, token in enumerate(option))
            if option in self.ambiguous:
                value += float(np.logaddexp.reduce(logs[option][ending]))
            found.append(value)
        return np.array(found)


def _sampler(sampling: Sampling, tokens: list[int], repeat: int) -> Any:
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    if sampling.temperature <= 0:
        llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_greedy())
        return chain
    if sampling.top_k > 0:
        llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1:
        llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1))
    llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_temp(sampling.temperature))
    seed = int.from_bytes(hashlib.sha256(f"{sampling.seed} {repeat} {tokens}".encode()).digest()[:4])
    llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_dist(seed))
    return chain


def _common_prefix(sequences: Sequence[list[int]]) -> int:
    """How many first tokens all share, leaving each at least one of its own."""
    if not sequences:
        return 0
    low, high = min(sequences), max(sequences)
    limit = min(map(len, sequences)) - 1
    return next((i for i in range(limit) if low[i] != high[i]), limit)


def _cut_at_sentence(text: str, length: int) -> str:
    """The beginning of ``text`` within ``length`` characters, ending at a sentence where one ends in its second half."""
    start = text[: max(length, 0)]
    end = max(start.rfind(mark) for mark in (". ", "! ", "? ", "\n"))
    return start[: end + 1] if end > len(start) // 2 else start
