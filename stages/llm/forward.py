"""A model's pass over tokens in torch: over a tree of them, or over the next token of many texts.

For long rows of tokens torch's matrix products are several times as fast as llama.cpp's, so :class:`stages.llm.llamacpp.LlamaCpp` chooses with them where the file allows
it. The next token of many answers takes either about as long on a CPU; it is computed here on a GPU, which llama.cpp uses only if it was compiled for it. Matrix products take
and give bf16 numbers where the device multiplies those; what is summed up over the layers, scores of attention and logits are float32.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, dequantize
from numpy.typing import NDArray
from torch.nn import functional

from stages.core.device import device_for, multiplies_bf16
from stages.core.errors import InputError
from stages.llm.choosing import common_prefix
from stages.llm.options import OptionTree

ROWS = 2048
"Tokens evaluated at once, more only for a single prompt."
CHUNK = 64
"Of these so many attend at a time, to the tokens that any of them sees."
VOCABULARY = 8192
"Rows of the output matrix in float32 at a time."
KNOWN = {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down", "token_embd", "output_norm", "output", "rope_freqs"}
"Llama's tensors, without the block's number."
FLOATS = {GGMLQuantizationType.BF16, GGMLQuantizationType.F16, GGMLQuantizationType.F32}

Past = list[tuple[torch.Tensor, torch.Tensor]]
"Keys and values [m, p, h] of each layer."
Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"What tokens see in a layer, [r, n · h], by the queries [r, n, h] of those read and keys and values [t, m, h] of all."


@contextmanager
def quick_products() -> Iterator[None]:
    """Products of float32 matrices by oneDNN instead of MKL, with factors rounded to bf16 where the CPU has AMX; on GPUs, to tf32. Sums stay float32."""
    backends = (torch.backends.mkldnn.matmul, "bf16"), (torch.backends.cuda.matmul, "tf32")  # type: ignore[attr-defined]  # torch sets the first one late
    before = [backend.fp32_precision for backend, _ in backends]
    for backend, precision in backends:
        backend.fp32_precision = precision
    try:
        yield
    finally:
        for (backend, _), precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


class Forward:
    """The weights of a GGUF file of Llama's architecture, with at most one adapter attached. On a CPU they stay in the file's pages, which llama.cpp reads as well."""

    def __init__(self, reader: "Reader", device: torch.device) -> None:
        """Weights of ``reader``, a file that :func:`evaluates`, on ``device``."""
        self.device = device
        self.factors = torch.bfloat16 if device.type != "cpu" or multiplies_bf16() else torch.float32
        self._w = {tensor.name.removesuffix(".weight"): _tensor(tensor.data).to(device) for tensor in reader.tensors}
        self.layers, self._heads = int(reader.number("block_count")), int(reader.number("attention.head_count"))
        self.kv_heads, self.width = int(reader.number("attention.head_count_kv", self._heads)), len(self._w["blk.0.attn_q"]) // self._heads
        self._epsilon = reader.number("attention.layer_norm_rms_epsilon")
        rates = reader.number("rope.freq_base", 10000.0) ** -(torch.arange(0, self.width, 2, dtype=torch.float64) / self.width)
        self._rates = (rates / self._w["rope_freqs"].double().cpu() if "rope_freqs" in self._w else rates).to(device)
        self._adapter: Path | None = None
        self._lora: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def attach(self, adapter: Path | None) -> None:
        """Evaluate with a LoRA ``adapter`` (GGUF) from here on, or without.

        :raises InputError: if it changes anything but attention and feed-forward layers.
        """
        if adapter == self._adapter:
            return
        self._adapter, self._lora = adapter, {}
        if adapter:
            reader = Reader(adapter)
            found = {tensor.name: torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type))) for tensor in reader.tensors}
            for name in sorted({name.rsplit(".lora_", 1)[0] for name in found}):
                if not name.startswith("blk."):
                    raise InputError(f"{adapter}: changes {name}, and only adapters of attention and feed-forward layers are evaluated here. Merge it into its model.")
                a, b = found[f"{name}.lora_a"], found[f"{name}.lora_b"]
                scale = float(reader.fields["adapter.lora.alpha"].contents()) / len(a)
                self._lora[name.removesuffix(".weight")] = a.to(self.device, self.factors), (b * scale).to(self.device, self.factors)

    def log_probabilities(self, prompts: Sequence[list[int]], options: Sequence[OptionTree]) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """The index of each prompt (token ids) and the log-probabilities [k] of its ``options`` [prompts] after it.

        Prompts are taken in the order of their tokens, so that what any of them begin with alike is evaluated once; the last path is kept for the next rows.
        """
        order = sorted(range(len(prompts)), key=lambda index: prompts[index])
        path, past = list[int](), Past()
        wanted = sorted(set().union(*(tokens for tree in set(options) for tokens in tree.wanted.values())))
        column = {token: i for i, token in enumerate(wanted)}
        for group in groups([prompts[index] for index in order], [sum(map(len, options[index].wanted)) for index in order]):
            some = order[group]
            known = common_prefix([path, prompts[some[0]]])
            past = [(k[:, :known], v[:, :known]) for k, v in past]
            tree = TokenTree(path[:known])
            paths = [tree.add(prompts[index]) for index in some]
            ends = [{beginning: tree.add(beginning, path[-1])[-1] if beginning else path[-1] for beginning in options[i].wanted} for i, path in zip(some, paths, strict=True)]
            read = {place: row for row, place in enumerate(dict.fromkeys(place for of_one in ends for place in of_one.values()))}
            logits, past = self.evaluate(tree, past, paths[-1], list(read))
            logs = logits.log_softmax(dim=1)[:, wanted].double().cpu().numpy()
            path = prompts[some[-1]]
            for index, of_one in zip(some, ends, strict=True):
                steps = ((beginning, token) for beginning, tokens in options[index].wanted.items() for token in tokens)
                yield index, options[index].log_probabilities({step: logs[read[of_one[step[0]]], column[step[1]]] for step in steps})

    @property
    def free_memory(self) -> int:
        """Bytes that the device has left."""
        return torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else psutil.virtual_memory().available

    @torch.inference_mode()
    def evaluate(self, tree: "TokenTree", past: Past, kept: Sequence[int], read: Sequence[int]) -> tuple[torch.Tensor, Past]:
        """Logits [r, v] of what follows the places ``read`` of ``tree``, and keys and values of those ``kept``; ``past`` holds those of the known."""
        sees, rows = tree.sees(), np.array(read, dtype=np.int64) - tree.known
        views, last_views = _views(sees, self.device), _views(sees[rows], self.device)
        stay, stays = torch.tensor(kept, dtype=torch.long, device=self.device), Past()

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            k, v = k.transpose(0, 1), v.transpose(0, 1)
            if past:
                k, v = torch.cat([past[layer][0], k], dim=1), torch.cat([past[layer][1], v], dim=1)
            stays.append((k.index_select(1, stay), v.index_select(1, stay)))
            return _attended(q.transpose(0, 1), k, v, last_views if layer == self.layers - 1 else views)

        return self.logits(tree.tokens[tree.known :], tree.depths[tree.known :], attend, torch.from_numpy(rows).to(self.device)), stays

    @torch.inference_mode()
    def logits(self, tokens: Sequence[int], positions: Sequence[int], attend: Attend, read: torch.Tensor) -> torch.Tensor:
        """[r, v] of what follows those of ``tokens`` [t] whose places are ``read`` [r]; only they pass the last layer."""
        turn = torch.polar(torch.ones((), dtype=torch.float64, device=self.device), torch.tensor(positions, device=self.device)[:, None] * self._rates)
        turn = turn.to(torch.complex64)[:, None]
        h = self._w["token_embd"][torch.tensor(tokens, dtype=torch.long, device=self.device)].float()
        for layer in range(self.layers):
            x = self._normalised(h, f"blk.{layer}.attn_norm")
            k, v = (self._product(x, f"blk.{layer}.attn_{name}").view(len(h), self.kv_heads, -1) for name in "kv")
            k = _turned(k.float(), turn)
            if layer == self.layers - 1:
                h, x, turn = h[read], x[read], turn[read]
            q = _turned(self._product(x, f"blk.{layer}.attn_q").view(len(h), self._heads, self.width).float(), turn)
            h += self._product(attend(layer, q, k, v), f"blk.{layer}.attn_output")
            x = self._normalised(h, f"blk.{layer}.ffn_norm")
            gated = functional.silu(self._product(x, f"blk.{layer}.ffn_gate"), inplace=True).mul_(self._product(x, f"blk.{layer}.ffn_up"))
            h += self._product(gated, f"blk.{layer}.ffn_down")
        states = self._normalised(h, "output_norm").float()
        output = self._w.get("output", self._w["token_embd"])
        return torch.cat([states @ output[first : first + VOCABULARY].float().T for first in range(0, len(output), VOCABULARY)], dim=1)

    def _normalised(self, h: torch.Tensor, name: str) -> torch.Tensor:
        return functional.rms_norm(h, h.shape[-1:], self._w[name], self._epsilon).to(self.factors)

    def _product(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """``x`` [t, i] times a matrix [o, i], and what the adapter adds -> [t, o]."""
        y = x @ self._w[name].to(self.factors).T
        if name in self._lora:
            a, b = self._lora[name]
            y.addmm_(x @ a.T, b.T)
        return y


class TokenTree:
    """Tokens of which each follows another; the first ``known`` are a path that was evaluated before."""

    def __init__(self, known: Sequence[int]) -> None:
        self.known, self.tokens, self.parents, self.depths = len(known), list[int](), list[int](), list[int]()
        self._children: dict[tuple[int, int], int] = {}
        self.add(known)

    def add(self, tokens: Sequence[int], after: int = -1) -> list[int]:
        """The places of ``tokens``, one after another behind place ``after``, or from the beginning on; what is there already is not added again."""
        places = []
        for token in tokens:
            place = self._children.setdefault((after, token), len(self.tokens))
            if place == len(self.tokens):
                self.tokens.append(token)
                self.parents.append(after)
                self.depths.append(self.depths[after] + 1 if after >= 0 else 0)
            places.append(after := place)
        return places

    def sees(self) -> NDArray[np.bool_]:
        """[new, all]: each new token sees those on its path, and itself."""
        found = np.zeros((len(self.tokens) - self.known, len(self.tokens)), dtype=np.bool_)
        for row, parent in enumerate(self.parents[self.known :]):
            if parent >= self.known:
                found[row] = found[parent - self.known]
            else:
                found[row, : parent + 1] = True
            found[row, self.known + row] = True
        return found


def _views(sees: NDArray[np.bool_], device: torch.device) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For ``CHUNK`` rows of ``sees`` after another: the places [c] that any of them sees, and for the last s of those, which not all see, [n, s] 0 where one does, -∞ where not."""
    found = []
    for first in range(0, len(sees), CHUNK):
        part = sees[first : first + CHUNK]
        columns = np.flatnonzero(part.any(axis=0))
        some = columns[np.argmin(part[:, columns].all(axis=0)) :]
        hidden = np.where(part[:, some], np.float32(0), np.float32(-np.inf))
        found.append((torch.from_numpy(columns).to(device), torch.from_numpy(hidden).to(device)))
    return found


def groups(prompts: Sequence[list[int]], extra: Sequence[int]) -> Iterator[slice]:
    """Sorted prompts in groups of up to ``ROWS`` tokens, with so many ``extra`` ones [prompts] behind each."""
    first, size = 0, 0
    for place, (before, tokens) in enumerate(pairwise([[], *prompts])):
        need = len(tokens) - common_prefix([before, tokens]) + extra[place]
        if place > first and size + need > ROWS:
            yield slice(first, place)
            first, size = place, 0
        size += need
    if prompts:
        yield slice(first, len(prompts))


def load(file: Path, wish: str) -> Forward | None:
    """The model of a GGUF file on the device that :func:`stages.core.device.device_for` finds for ``wish``; none if it is of another kind than :func:`evaluates`."""
    reader = Reader(file)
    return Forward(reader, device_for(wish)) if evaluates(reader) else None


def evaluates(reader: "Reader") -> bool:
    """Whether this module knows all that a GGUF file holds: Llama's architecture, whole, not quantised, one rotary embedding for all of a head."""
    if reader.text("general.architecture") != "llama" or reader.text("llama.rope.scaling.type") not in (None, "none") or "split.count" in reader.fields:
        return False
    shapes = {tensor.name: tensor.shape for tensor in reader.tensors}
    width = int(shapes["blk.0.attn_q.weight"][1] / reader.number("attention.head_count")) if "blk.0.attn_q.weight" in shapes else 0
    return (
        all(reader.number(key, width) == width for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"))
        and {name.removesuffix(".weight").split(".")[-1] for name in shapes} <= KNOWN
        and all(tensor.tensor_type in FLOATS for tensor in reader.tensors)
    )


class Reader(GGUFReader):
    """Tensors and single values of a GGUF file. Lists, such as the vocabulary, are passed over: ``GGUFReader`` takes seconds to read them."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, "c")  # torch wants memory that could be written to

    def text(self, key: str) -> str | None:
        """The value of a key, if it is there."""
        return str(self.fields[key].contents()) if key in self.fields else None

    def number(self, key: str, default: float | None = None) -> float:
        """The value of Llama's ``key``."""
        return float(self.fields[f"llama.{key}"].contents()) if f"llama.{key}" in self.fields or default is None else default

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> tuple[int, list[NDArray[np.generic]], list[int], list[GGUFValueType]]:
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        kind, n, start = GGUFValueType(self._get(orig_offs, np.uint32)[0]), int(self._get(orig_offs + 4, np.uint64)[0]), orig_offs + 12
        end = start
        if kind == GGUFValueType.STRING:
            for _ in range(n):
                end += 8 + int.from_bytes(self.data[end : end + 8].tobytes(), "little")
        else:
            end += n * np.dtype(self.gguf_scalar_to_np[kind]).itemsize
        return end - orig_offs, [], [], [GGUFValueType.ARRAY, kind]


def _tensor(data: NDArray[np.generic]) -> torch.Tensor:
    """A matrix of GGUF as it is, a vector in float32; bfloat16 numbers, which NumPy does not know, are bytes there."""
    found = torch.from_numpy(data)
    found = found.view(torch.bfloat16) if found.dtype == torch.uint8 else found
    return found.float() if found.ndim == 1 else found


def _attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, views: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """What each token sees: ``q`` [n, t, h], ``k`` and ``v`` [m, p, h], which n / m neighbouring heads share, ``views`` as of :func:`_views` -> [t, n · h].

    Scores are float32: large ones would lose too much in bf16.
    """
    (n, t, h), m = q.shape, len(k)
    found = v.new_empty(t, n, h)
    with quick_products():
        for first, (columns, hidden) in zip(range(0, t, CHUNK), views, strict=True):
            scores = (q[:, first : first + CHUNK] * h**-0.5).reshape(m, -1, h) @ k.index_select(1, columns).transpose(1, 2)
            scores.view(n, len(hidden), -1)[:, :, len(columns) - hidden.shape[1] :] += hidden
            found[first : first + CHUNK] = (scores.softmax(dim=-1).to(v.dtype) @ v.index_select(1, columns)).view(n, -1, h).transpose(0, 1)
    return found.flatten(1)


def _turned(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Each pair of neighbours of ``x`` [t, n, h] as a complex number, times ``turn`` [t, 1, h / 2]."""
    return torch.view_as_real(torch.view_as_complex(x.view(*x.shape[:2], x.shape[2] // 2, 2)) * turn).flatten(2)
