"""llama.cpp's evaluation of tokens: a thin layer over its C functions."""

import ctypes
import os
from collections.abc import Sequence
from enum import Enum
from typing import Any

import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

BATCH = 511  # tokens evaluated at once, less one for ``Context.evaluate``: more does not run faster on a CPU and takes more memory
SEQUENCES = 255  # llama.cpp's limit, less one for ``Context.evaluate``


class Numbers(Enum):
    """The 2-byte numbers that keys and values are kept in, which decide how llama.cpp attends."""

    F16 = GGMLQuantizationType.F16.value
    "many tokens at a time: fast for long texts, sums depend on what else is evaluated"
    BF16 = GGMLQuantizationType.BF16.value
    "one token at a time: fast for the last token of many texts, sums depend on the order of a text's cells alone"


class Context:
    """Memory for sequences of tokens, and the means to extend them."""

    def __init__(self, model: Any, cells: int, numbers: Numbers) -> None:
        """Room for ``cells`` tokens of ``model`` in up to ``SEQUENCES`` sequences; a token that several share counts once.

        :raises MemoryError: if there is not enough.
        """
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = cells, SEQUENCES + 1, True
        params.n_batch = params.n_ubatch = BATCH + 1
        params.type_k = params.type_v = numbers.value
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.n_threads = params.n_threads_batch = len(os.sched_getaffinity(0))
        self._context = llama_cpp.llama_init_from_model(model, params)
        if not self._context:
            raise MemoryError(f"no memory for {cells} tokens")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def attach(self, adapter: Any) -> None:
        """Evaluate with a LoRA adapter (llama.cpp's handle) from here on, or without."""
        handles = [adapter] if adapter else []
        pointers = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(*handles) if handles else None
        llama_cpp.llama_set_adapters_lora(self._context, pointers, len(handles), (ctypes.c_float * 1)(1.0) if handles else None)

    def clear(self) -> None:
        """Forget all sequences."""
        llama_cpp.llama_memory_clear(self._memory, False)

    def forget(self, sequence: int) -> None:
        """Forget one sequence."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def copy(self, source: int, target: int) -> None:
        """Begin the empty sequence ``target`` with all of ``source``, which takes no memory."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def evaluate(self, batch: "Batch") -> None:
        """Append the tokens of ``batch`` to their sequences.

        llama.cpp multiplies a single row by another routine than several, with other rounding: a lone one gets a companion.
        """
        rows, read = batch.size, batch.read
        lone = rows == 1 or read == 1
        if lone:
            batch.add(batch.raw.token[0], 0, [SEQUENCES], logits=read > 0)
        code = llama_cpp.llama_decode(self._context, batch.raw)
        if code:
            raise RuntimeError(f"llama_decode ended with {code}")
        if lone:
            self.forget(SEQUENCES)
            batch.shorten(rows, read)

    def extend(self, sequence: int, tokens: Sequence[int], start: int) -> None:
        """Append ``tokens`` to one sequence, the first at position ``start``."""
        batch = Batch()
        for first in range(0, len(tokens), BATCH):
            batch.clear()
            for position, token in enumerate(tokens[first : first + BATCH], start + first):
                batch.add(token, position, [sequence], logits=False)
            self.evaluate(batch)

    def logits(self, row: int) -> NDArray[np.float32]:
        """The logits [v] of what follows the token in that row of the last batch; valid until the next."""
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, row), shape=(self._size,))

    def free(self) -> None:
        """Give the memory back."""
        llama_cpp.llama_free(self._context)


class Batch:
    """Tokens to evaluate together, at most ``BATCH``; filled again and again."""

    def __init__(self) -> None:
        self.raw = llama_cpp.llama_batch_init(BATCH + 1, 0, SEQUENCES)
        self.read = 0
        "rows whose logits are wanted"

    def __del__(self) -> None:
        llama_cpp.llama_batch_free(self.raw)

    @property
    def size(self) -> int:
        """Tokens in it."""
        return int(self.raw.n_tokens)

    def clear(self) -> None:
        """Empty it."""
        self.shorten(0, 0)

    def shorten(self, rows: int, read: int) -> None:
        """Keep the first ``rows``, of which ``read`` are wanted."""
        self.raw.n_tokens, self.read = rows, read

    def add(self, token: int, position: int, sequences: Sequence[int], *, logits: bool) -> int:
        """Add a token that belongs to ``sequences``; its row."""
        row = self.size
        self.raw.token[row], self.raw.pos[row], self.raw.logits[row] = token, position, logits
        self.raw.n_seq_id[row] = len(sequences)
        for i, sequence in enumerate(sequences):
            self.raw.seq_id[row][i] = sequence
        self.raw.n_tokens = row + 1
        self.read += logits
        return row
