"""llama.cpp's evaluation of tokens: a thin layer over its C functions."""

import ctypes
from collections.abc import Sequence
from typing import Any

import joblib
import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

BATCH = 511  # tokens evaluated at once, less one for ``Context.evaluate``: more does not run faster on a CPU and takes more memory
SEQUENCES = 256  # llama.cpp's limit


class Context:
    """Memory for sequences of tokens, and the means to extend them.

    Sequences share their memory or keep apart, which also decides how llama.cpp attends. Shared, a copy costs nothing, and many tokens attend at a time
    to all that is in memory, which suits texts; keys and values are half floats then. Apart, each token attends for itself to its own sequence, which suits the next
    token of many answers and rounds the same whatever else is evaluated; keys and values are bfloat16, and a copy is made in memory.
    """

    def __init__(self, model: Any, sequences: int, cells: int, *, apart: bool) -> None:
        """Room for ``sequences`` of ``model``, at most ``SEQUENCES``, and ``cells`` tokens, of each sequence if they keep ``apart`` and else of all.

        A token that several sequences share counts once.

        :raises MemoryError: if there is not enough.
        """
        self.sequences = sequences
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = cells * sequences if apart else cells, sequences, not apart
        params.n_batch = params.n_ubatch = BATCH + 1
        params.type_k = params.type_v = (GGMLQuantizationType.BF16 if apart else GGMLQuantizationType.F16).value
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.n_threads = params.n_threads_batch = joblib.cpu_count()  # those that affinity and a container leave us
        self._context = llama_cpp.llama_init_from_model(model, params)
        if not self._context:
            raise MemoryError(f"no memory for {params.n_ctx} tokens")
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

    def forget(self, sequence: int, start: int = 0) -> None:
        """Forget one sequence from position ``start`` on."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, start, -1)

    def copy(self, source: int, target: int, end: int = -1) -> None:
        """Begin ``target`` with ``source``. Where sequences share their memory, ``target`` must be empty and ``end`` may be the position to copy to, exclusive."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, end)

    def evaluate(self, batch: "Batch") -> None:
        """Append the tokens of ``batch`` to their sequences.

        llama.cpp multiplies a single row by another routine than several, with other rounding: a lone one gets a companion, which follows the last token and is
        forgotten.
        """
        rows, read = batch.size, batch.read
        lone = rows == 1 or read == 1
        if lone:
            token, position, sequences = batch.last()
            batch.add(token, position + 1, sequences, logits=read > 0)
        code = llama_cpp.llama_decode(self._context, batch.raw)
        if code:
            raise RuntimeError(f"llama_decode ended with {code}")
        if lone:
            for sequence in sequences:
                self.forget(sequence, position + 1)
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

    def last(self) -> tuple[int, int, list[int]]:
        """The token that was added last, its position and its sequences."""
        row = self.size - 1
        return self.raw.token[row], self.raw.pos[row], list(self.raw.seq_id[row][: self.raw.n_seq_id[row]])

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
