"""What llama.cpp's engine computes between the prompt and the answer."""

from collections.abc import Sequence

import numpy as np

from stages.llm.context import Batch
from stages.llm.llamacpp import LlamaCpp


def llama_logits(model: LlamaCpp, tokens: Sequence[int]) -> np.ndarray:
    """llama.cpp's logits [s, v] at every position of a text."""
    batch = Batch()
    for position, token in enumerate(tokens):
        batch.add(token, position, [0], logits=True)
    with model._apart(1, len(tokens)) as context:
        context.evaluate(batch)
        return np.stack([context.logits(row).copy() for row in range(len(tokens))])
