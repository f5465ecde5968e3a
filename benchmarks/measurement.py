"""Where a model stands, our way against the paper's: ``python -m benchmarks.measurement``.

The paper's way is one statement after another through ``Llama.create_chat_completion``, an integer and a reason of up to 300 sampled tokens
(temperature .3, top-k 200), on the file as it is shipped. It is measured on every sixth statement and scaled by their number.

Ours is the forced arm on the file that ``base`` writes, all statements in all wordings and both orders, without the response cache. An answered statement is
one statement in one wording, in both orders. The last line is JSON: ``ratio`` is the time of 300 tokens, at the paper's way's speed, over that of our answered
statement, and ``pass_ratio`` that of 300 tokens for every statement over ours in all wordings. A small model often ends earlier: ``ratio_as_written`` and
``pass_ratio_as_written`` count the tokens that it wrote, and ``ratio_as_read`` its texts that could be read as an answer. ``share_of_limit`` is the share of the
matrix products' bf16 peak that our tokens' products with the weights make up.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import llama_cpp

from benchmarks.generation import SHIPPED, operations, peak_flops
from stages.core.params import parse, read_yaml
from stages.instruments import instrument as instruments
from stages.instruments import paper
from stages.instruments import questionnaire as forced
from stages.instruments.instrument import Instrument
from stages.instruments.questionnaire import Wording
from stages.llm.choosing import parting
from stages.llm.interface import Choice, Prompt
from stages.llm.llamacpp import LlamaCpp
from stages.llm.options import OptionTree
from stages.models.base import convert, resolve

INSTRUMENT = Path("prompts/instruments/compass.yaml")
TOKENS, TEMPERATURE, TOP_K, EVERY = 300, 0.3, 200, 6


@dataclass(frozen=True)
class PapersWay:
    """What one pass over all statements takes."""

    seconds: float
    "scaled to all statements"
    tokens_per_second: float
    answered: float
    "share of texts that could be read"


def papers_way(instrument: Instrument) -> PapersWay:
    """Ask a part of the statements, one after another."""
    wording = Template(parse(paper.Wording, read_yaml(paper.PROMPT), str(paper.PROMPT)).wording)
    scale = "\n".join(f"{i} = {label}" for i, label in enumerate(instrument.options))
    part = instrument.items[::EVERY]
    peer = llama_cpp.Llama(str(resolve(SHIPPED)), n_ctx=1024, verbose=False, seed=1)
    texts, tokens = [], 0
    start = time.perf_counter()
    for item in part:
        turn = {"role": "user", "content": wording.substitute(statement=item.text, scale=scale)}
        answer = peer.create_chat_completion([turn], max_tokens=TOKENS, temperature=TEMPERATURE, top_k=TOP_K)
        texts.append(answer["choices"][0]["message"]["content"])
        tokens += answer["usage"]["completion_tokens"]
    seconds = time.perf_counter() - start
    peer.close()
    answered = sum(paper.read(text, len(instrument.options)) is not None for text in texts) / len(part)
    print(f"paper's way: {len(part)} statements, {tokens} tokens in {seconds:.1f} s, {answered:.0%} could be read", file=sys.stderr)
    return PapersWay(seconds / len(part) * len(instrument.items), tokens / seconds, answered)


class Remembered:
    """A model that remembers what it was asked, so that tokens are counted once the clock has stopped."""

    def __init__(self, model: LlamaCpp) -> None:
        self.model, self.fingerprint, self.generate = model, model.fingerprint, model.generate
        self.asked = list[tuple[Sequence[Prompt], Sequence[Sequence[str]]]]()

    def choose(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Iterator[tuple[int, Choice]]:
        """See :class:`stages.llm.interface.LanguageModel`."""
        self.asked.append((prompts, options))
        return self.model.choose(prompts, options)

    def operations(self) -> int:
        """Floating-point operations that all of it took."""
        tokens = outputs = 0
        for prompts, options in self.asked:
            texts = [self.model.tokenizer.tokens(self.model.tokenizer.render(prompt)) for prompt in prompts]
            tree = OptionTree([self.model.tokenizer.tokens(option, special=False) for option in options[0]], self.model.tokenizer.ending)  # a questionnaire's are all alike
            tokens += sum(map(len, texts)) - sum(parting(sorted(texts))) + len(texts) * sum(map(len, tree.branches))
            outputs += len(texts) * len(tree.wanted)
        return operations(self.model, tokens, outputs)


def ours(instrument: Instrument, wordings: tuple[Wording, ...]) -> tuple[float, float]:
    """Seconds to ask all statements in all wordings, and the share of the limit."""
    with tempfile.TemporaryDirectory() as folder:
        convert(resolve(SHIPPED), "BF16", Path(folder))
        with LlamaCpp(Path(folder) / "model.gguf", context=512) as model:
            remembered = Remembered(model)
            start = time.perf_counter()
            for wording in wordings:
                before = time.perf_counter()
                forced.ask(remembered, instrument, (wording,))
                print(f"  {wording.id}: {time.perf_counter() - before:.1f} s", file=sys.stderr)
            seconds = time.perf_counter() - start
            computed = remembered.operations() / seconds
    return seconds, computed / peak_flops()


def main() -> None:
    """Run both and report."""
    instrument = instruments.load(INSTRUMENT)
    wordings = instrument.wordings
    seconds, share = ours(instrument, wordings)
    paper_pass = papers_way(instrument)
    n = len(instrument.items)
    per_answer, per_text, whole_text = seconds / (n * len(wordings)), paper_pass.seconds / n, TOKENS / paper_pass.tokens_per_second
    print(
        json.dumps(
            {
                "name": "measurement",
                "ratio": round(whole_text / per_answer, 1),
                "ratio_as_written": round(per_text / per_answer, 1),
                "ratio_as_read": round(per_text / max(paper_pass.answered, 1 / n) / per_answer, 1),
                "pass_ratio": round(n * whole_text / seconds, 2),
                "pass_ratio_as_written": round(paper_pass.seconds / seconds, 2),
                "value": round(1 / per_answer, 1),
                "unit": "answered statements/s",
                "peer": "PoliTune's protocol through llama-cpp-python create_chat_completion",
                "peer_value": round(paper_pass.answered / per_text, 3),
                "peer_answered": round(paper_pass.answered, 3),
                "wordings": len(wordings),
                "share_of_limit": round(share, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
