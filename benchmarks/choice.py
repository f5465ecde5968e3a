"""Choosing among fixed answers against llama-cpp-python's completion loop: ``python -m benchmarks.choice``.

300 posts of the sample with the filter's few-shot prompt. The peer asks ``Llama.create_completion`` for one token with log-probabilities, one post
after another, with llama-cpp-python's own reuse of the prefix that a prompt shares with the one before, on the file as it is shipped; ours is
``choose`` on the file that ``base`` writes. Both run in this process, on the same cores, ours between two halves of the peer's posts, so that a slow spell of the
machine meets both. Neither's loading is counted. The last line is JSON: ``ratio`` is the peer's time over ours, ``largest_difference`` that between probabilities alone and
in a batch, ``share_of_limit`` the share of the matrix products' bf16 peak that is reached.

What keeps ours from that peak is attention: its scores are products of float32 numbers, and each is read and written several times on its way to a weight.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import llama_cpp
import numpy as np

from benchmarks.generation import SHIPPED, operations, peak_flops
from stages.corpora.truthsocial import read
from stages.llm import prompts
from stages.llm.choosing import parting
from stages.llm.interface import choices
from stages.llm.llamacpp import LlamaCpp
from stages.models.base import convert, resolve

POSTS, LENGTH, ALONE = 300, 220, 100


def ask(peer: llama_cpp.Llama, texts: list[str]) -> float:
    """The peer's seconds for ``texts``."""
    start = time.perf_counter()
    for text in texts:
        peer.create_completion(text, max_tokens=1, temperature=0.0, logprobs=20)
    return time.perf_counter() - start


def main() -> None:
    """Run both and report."""
    task = prompts.load(Path("prompts/filter.yaml"))
    posts = [record.text[:LENGTH] for record in read(Path("data/sample/truthsocial/truths.tsv")) if record.text][:POSTS]
    asked = [task.render("right", {"post": post}) for post in posts]
    with tempfile.TemporaryDirectory() as folder:
        convert(resolve(SHIPPED), "BF16", Path(folder))
        with LlamaCpp(Path(folder) / "model.gguf") as model:
            texts = [model.tokenizer.render(prompt) for prompt in asked]
            peer = llama_cpp.Llama(str(resolve(SHIPPED)), n_ctx=1024, logits_all=True, verbose=False)
            ask(peer, texts[:1])
            choices(model, asked[:1], task.options)
            seconds = ask(peer, texts[: POSTS // 2])
            start = time.perf_counter()
            ours = choices(model, asked, task.options)
            own_seconds = time.perf_counter() - start
            seconds += ask(peer, texts[POSTS // 2 :])
            peer.close()
            alone = [choices(model, [prompt], task.options)[0] for prompt in asked[:ALONE]]
            shared = sum(parting(sorted(model.tokenizer.tokens(text) for text in texts)))
            computed = operations(model, sum(choice.prompt_tokens for choice in ours) - shared, len(ours)) / own_seconds
    difference = np.abs(np.subtract([c.probabilities for c in ours[:ALONE]], [c.probabilities for c in alone])).max()
    print(f"create_completion: {len(texts) / seconds:.1f} posts/s; choose: {len(texts) / own_seconds:.1f} posts/s", file=sys.stderr)
    print(
        json.dumps(
            {
                "name": "choice",
                "ratio": round(seconds / own_seconds, 2),
                "value": round(len(ours) / own_seconds, 1),
                "unit": "posts/s",
                "peer": "llama-cpp-python create_completion, one token with log-probabilities",
                "peer_value": round(len(ours) / seconds, 1),
                "largest_difference": round(float(difference), 4),
                "share_of_limit": round(computed / peak_flops(), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
