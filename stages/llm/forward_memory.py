"""What :class:`stages.llm.forward.Forward` remembers of texts that it writes side by side."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from stages.llm.forward import Forward, TokenTree, groups, quick_products


class ForwardMemory:
    """A :class:`stages.llm.memory.Memory`: keys (float32) and values of each text's own tokens, and once those of what all begin with."""

    def __init__(self, model: Forward, places: int, length: int, shared: list[int]) -> None:
        """Room for ``places`` texts of ``length`` tokens, all of which begin with ``shared``."""
        self.places, self._model, self._shared = places, model, shared
        tree = TokenTree([])
        _, self._common = model.evaluate(tree, [], tree.add(shared), []) if shared else (None, [])
        size = model.layers, places, model.kv_heads, length - len(shared), model.width
        self._keys, self._values = torch.zeros(size, device=model.device), torch.zeros(size, device=model.device, dtype=model.factors)
        self._lengths = torch.zeros(places, dtype=torch.long)

    @staticmethod
    def bytes_per_token(model: Forward) -> int:
        """What a token takes in all layers."""
        return model.layers * model.kv_heads * model.width * (torch.float32.itemsize + model.factors.itemsize)

    def begin(self, place: int, prompts: Sequence[list[int]]) -> None:
        """See :class:`stages.llm.memory.Memory`. What neighbours begin with alike is evaluated once."""
        start = len(self._shared)
        self._lengths[place : place + len(prompts)] = torch.tensor([len(prompt) - start for prompt in prompts])
        for group in groups([prompt[start:] for prompt in prompts], [0] * len(prompts)):
            tree = TokenTree(self._shared)
            own = [tree.add(prompt)[start:] for prompt in prompts[group]]
            if not any(own):
                continue
            _, found = self._model.evaluate(tree, self._common, [place for path in own for place in path], [])
            ends = list(accumulate(map(len, own), initial=0))
            for layer, (keys, values) in enumerate(found):
                for target, (first, end) in enumerate(pairwise(ends), place + group.start):
                    self._keys[layer, target, :, : end - first] = keys[:, first:end]
                    self._values[layer, target, :, : end - first] = values[:, first:end]

    def follow(self, tokens: Sequence[int]) -> Sequence[NDArray[np.float32]]:
        """See :class:`stages.llm.memory.Memory`."""
        n, start, m = len(tokens), len(self._shared), self._model.kv_heads
        lengths = self._lengths[:n].to(self._model.device)
        rows, longest = torch.arange(n, device=lengths.device), int(lengths.max()) + 1
        unseen = torch.arange(longest, device=lengths.device) > lengths[:, None, None, None]

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            keys, values = self._keys[layer], self._values[layer]
            keys[rows, :, lengths], values[rows, :, lengths] = k, v
            q = q.view(n, m, -1, self._model.width) * self._model.width**-0.5
            scores = (q @ keys[:n, :, :longest].mT).masked_fill_(unseen, -torch.inf)
            if start:
                keys, common = self._common[layer]
                with quick_products():
                    to_all = q.transpose(0, 1).flatten(1, 2) @ keys.mT
                scores = torch.cat([to_all.view(m, n, -1, start).transpose(0, 1), scores], dim=-1)
            weights = scores.softmax(dim=-1).to(values.dtype)
            seen = weights[..., start:] @ values[:n, :, :longest]
            if start:
                seen += (weights[..., :start].transpose(0, 1).flatten(1, 2) @ common).view(m, n, -1, self._model.width).transpose(0, 1)
            return seen.flatten(1)

        logits = self._model.logits(tokens, (self._lengths[:n] + start).tolist(), attend, rows)
        self._lengths[:n] += 1
        return list(logits.cpu().numpy())

    def move(self, source: int, target: int) -> None:
        """See :class:`stages.llm.memory.Memory`."""
        length = self._lengths[target] = self._lengths[source]
        for memory in (self._keys, self._values):
            memory[:, target, :, :length] = memory[:, source, :, :length]
