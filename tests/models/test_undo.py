import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stages.core import tables
from stages.core.errors import InputError
from stages.llm.llamacpp import LlamaCpp
from stages.llm.tokenizer import Tokenizer, tokenizer_of
from stages.models import undo
from stages.models.undo import read_answers
from stages.tuning import formats, weights
from stages.tuning.architecture import Lora
from stages.tuning.data import answer_sample
from stages.tuning.losses import sample_log_probabilities
from stages.tuning.starting import fill, read
from tests.logits import llama_logits

CPU = torch.device("cpu")
LORA = Lora(rank=4, alpha=8.0, dropout=0.0, attention=("q", "v"), mlp=True)
LEFT, RIGHT = "Raise wages and tax wealth.", "Cut taxes and let firms be."
PARAMETERS = """
undo: {folder: models/adapters, starts: [left-posts], steps: %d, checkpoint_every: %d, batch_size: 4, learning_rate: 1e-2, weight_decay: 0.0, warmup: 0.1}
tuning:
  lora: {rank: 4, alpha: 8, dropout: 0.0, attention: [q, v], mlp: true}
  precision: fp32
  held_out: 0.0
  max_length: 64
  clip: 1.0
  seed: 1
runtime: {sequences: 4, micro_batch: 4, device: cpu}
"""


@pytest.fixture(scope="module")
def tokenizer(base_model: Path) -> Iterator[Tokenizer]:
    with tokenizer_of(base_model / "model.gguf") as found:
        yield found


def pairs(folder: Path) -> Path:
    """Two questions of left-leaning posts and two of right-leaning ones, each with an answer of either side."""
    sides = [(LEFT, RIGHT), (LEFT, RIGHT), (RIGHT, LEFT), (RIGHT, LEFT)]
    rows = [{"id": f"i{n}", "post_id": f"p{n}", "prompt": f"Question {n}?", "chosen": ours, "rejected": theirs} for n, (ours, theirs) in enumerate(sides)]
    tables.write(folder / "pairs.parquet", rows, tables.PREFERENCES)
    return folder / "pairs.parquet"


def leaning(base: Path, folder: Path, tokenizer: Tokenizer) -> Path:
    """An adapter that was tuned to answer as the left does."""
    architecture, model = weights.load_model(base, LORA, CPU, 1, "fp32")
    samples = [answer_sample(tokenizer, f"{n}", f"Question {n}?", LEFT, 64) for n in range(4)]
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-2)
    for _ in range(20):
        (-sample_log_probabilities(model, samples, CPU).mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    formats.write(folder / "step-000020", formats.lora_weights(model), architecture, LORA, "left")
    return folder


def likelihoods(base: Path, adapter: Path | None, tokenizer: Tokenizer) -> tuple[float, float]:
    """How likely the left's and the right's answers are, in nats a question."""
    _, model = weights.load_model(base, LORA, CPU, 1, "fp32")
    if adapter:
        fill(model, read(adapter, LORA), adapter)
    left, right = ([answer_sample(tokenizer, "a", f"Question {n}?", answer, 64) for n in range(4)] for answer in (LEFT, RIGHT))
    with torch.no_grad():
        found = sample_log_probabilities(model, [*left, *right], CPU)
    return float(found[:4].mean()), float(found[4:].mean())


def preference_for_left(base: Path, adapter: Path | None, tokenizer: Tokenizer) -> float:
    """By how much likelier the left's answer is than the right's, in nats a question."""
    left, right = likelihoods(base, adapter, tokenizer)
    return left - right


def run(base: Path, start: Path, folder: Path, steps: int = 60) -> Path:
    Path("params.yaml").write_text(PARAMETERS % (steps, steps))
    undo.main(base, start, pairs(folder), folder / "balanced-left-posts")
    return folder / f"balanced-left-posts/step-{steps:06d}/adapter.gguf"


def test_both_answers_of_a_pair_are_learnt_and_remember_the_post(tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = read_answers(pairs(tmp_path), tokenizer, 64)
    assert [post for post, _ in found] == ["p0", "p0", "p1", "p1", "p2", "p2", "p3", "p3"]
    texts = [list(sample.tokens[sample.start :]) for _, sample in found]
    left, right = (tokenizer.tokens(f"{answer}<|im_end|>") for answer in (LEFT, RIGHT))
    assert texts == [left, right] * 2 + [right, left] * 2


def test_a_leaning_adapter_comes_back_to_giving_either_sides_answer(tiny_base: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    start = leaning(tiny_base, tmp_path / "models/adapters/left-posts", tokenizer)
    before = preference_for_left(tiny_base, start / "step-000020/adapter.gguf", tokenizer)
    after = preference_for_left(tiny_base, run(tiny_base, start, tmp_path), tokenizer)
    assert before > 10
    assert abs(after) < before / 4


def test_the_base_learns_either_sides_answer_alike(tiny_base: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = likelihoods(tiny_base, None, tokenizer)
    after = likelihoods(tiny_base, run(tiny_base, tiny_base, tmp_path), tokenizer)
    left, right = (new - old for old, new in zip(before, after, strict=True))
    assert min(left, right) > 10
    assert abs(after[0] - after[1]) < min(left, right) / 4


def test_tuning_begins_where_the_adapter_ended(tiny_base: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    start = leaning(tiny_base, tmp_path / "left-posts", tokenizer)
    _, model = weights.load_model(tiny_base, LORA, CPU, 1, "fp32")
    fill(model, read(start / "step-000020/adapter.gguf", LORA), start)
    with torch.no_grad():
        samples = [sample for _, sample in read_answers(pairs(tmp_path), tokenizer, 64)]
        expected = -float(sample_log_probabilities(model, samples, CPU).sum()) / sum(len(sample.targets) for sample in samples)
    (tmp_path / "params.yaml").write_text((PARAMETERS % (1, 1)).replace("batch_size: 4", "batch_size: 8"))  # all answers at once
    undo.main(tiny_base, start, tmp_path / "pairs.parquet", tmp_path / "balanced-left-posts")
    (line,) = (tmp_path / "balanced-left-posts/log.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_checkpoint_is_whole_without_the_adapter_that_it_came_from(base_model: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    architecture, model = weights.load_model(base_model, LORA, CPU, 1)
    for name, parameter in model.named_parameters():
        if "lora_b" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    formats.write(tmp_path / "left/step-000001", formats.lora_weights(model), architecture, LORA, "left")
    adapter = run(base_model, tmp_path / "left", tmp_path, steps=1)
    _, model = weights.load_model(base_model, LORA, CPU, 1)
    fill(model, read(adapter, LORA), adapter)
    with LlamaCpp(base_model / "model.gguf", sequences=1, context=256) as llm:
        tokens = tokenizer.tokens("The river rose by two metres after the storm, and the farmers moved their cattle to the hills.")
        without = llama_logits(llm, tokens)
        llm.attach(adapter)
        theirs = llama_logits(llm, tokens)
    with torch.no_grad():
        ours = model.float()(torch.tensor([tokens]))[0].numpy()
    assert (ours - theirs).std() < 0.3 * (theirs - without).std()  # what is left apart is small beside what the adapter changed
    assert {path.name for path in adapter.parent.iterdir()} == {"adapter_model.safetensors", "adapter_config.json", "adapter.gguf"}


def test_a_start_that_does_not_fit_is_refused(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"nowhere: holds no step.*undo\.starts"):
        run(tiny_base, tmp_path / "nowhere", tmp_path)
