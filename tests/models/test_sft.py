import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.core import tables
from stages.core.errors import InputError
from stages.llm.tokenizer import Tokenizer, tokenizer_of
from stages.models import sft
from stages.models.sft import Supervised, read_samples
from stages.tuning.data import Sample

CPU = torch.device("cpu")
LENGTHS = [(9, 3), (25, 8), (14, 2), (6, 5), (19, 10)]
NOWHERE = Path("nowhere.parquet")


@pytest.fixture(scope="module")
def tokenizer(base_model: Path) -> Iterator[Tokenizer]:
    with tokenizer_of(base_model / "model.gguf") as found:
        yield found


def samples() -> list[Sample]:
    generator = torch.Generator().manual_seed(5)
    return [Sample(str(i), tuple(torch.randint(300, (n,), generator=generator).tolist()), start, False) for i, (n, start) in enumerate(LENGTHS)]


def loss_and_gradient(objective: Supervised) -> tuple[float, dict[str, torch.Tensor]]:
    objective.model.zero_grad()
    total = 0.0
    for loss, _ in objective.parts(range(len(objective))):
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in objective.model.named_parameters() if p.grad is not None}


def test_the_loss_of_three_tokens_by_hand(bigrams: Callable[..., Any]) -> None:
    # after token 0 comes 1 with probability 1/2, after 1 comes 2 with probability 1/8
    model = bigrams([[0.25, 0.5, 0.25], [0.5, 0.375, 0.125], [0.2, 0.3, 0.5]])
    after_prompt = Supervised(model, [Sample("a", (0, 1, 2), 1, False)], [], CPU, 1)
    last_only = Supervised(model, [Sample("a", (0, 1, 2), 2, False)], [], CPU, 1)
    assert loss_and_gradient(after_prompt)[0] == pytest.approx((math.log(2) + math.log(8)) / 2, rel=1e-4)
    assert loss_and_gradient(last_only)[0] == pytest.approx(math.log(8), rel=1e-4)


def test_every_answer_token_weighs_the_same(bigrams: Callable[..., Any]) -> None:
    model = bigrams([[0.25, 0.5, 0.25], [0.5, 0.375, 0.125], [0.2, 0.3, 0.5]])
    pair = [Sample("a", (0, 1, 2), 1, False), Sample("b", (2, 2), 1, False)]  # ln 2 and ln 8, then ln 2
    expected = (math.log(2) + math.log(8) + math.log(2)) / 3
    assert loss_and_gradient(Supervised(model, pair, [], CPU, 1))[0] == pytest.approx(expected, rel=1e-4)
    with torch.no_grad():
        assert Supervised(model, [], pair, CPU, 1).held_out()["loss"] == pytest.approx(expected, rel=1e-4)


def test_how_many_are_evaluated_at_once_changes_neither_loss_nor_gradient(tiny: Callable[..., Any]) -> None:
    model = tiny()
    whole, gradient = loss_and_gradient(Supervised(model, samples(), [], CPU, 5))
    assert len(gradient) == 2 * 5 * 2
    for size in (1, 2, 3):
        loss, found = loss_and_gradient(Supervised(model, samples(), [], CPU, size))
        assert loss == pytest.approx(whole, rel=1e-5)
        for name, wanted in gradient.items():
            torch.testing.assert_close(found[name], wanted, atol=1e-5 * float(wanted.abs().max()), rtol=1e-3)


def test_held_out_samples_are_measured_like_training_ones(tiny: Callable[..., Any]) -> None:
    model = tiny()
    expected, _ = loss_and_gradient(Supervised(model, samples(), [], CPU, 5))
    with torch.no_grad():
        assert Supervised(model, [], samples(), CPU, 2).held_out()["loss"] == pytest.approx(expected, rel=1e-5)
        assert Supervised(model, samples(), [], CPU, 2).held_out() == {}


def test_tokens_count_prompts_and_answers_without_padding(tiny: Callable[..., Any]) -> None:
    assert Supervised(tiny(), samples(), [], CPU, 2).tokens([0, 1, 0]) == 9 + 25 + 9


def instructions(path: Path, rows: int = 2) -> Path:
    tables.write(
        path,
        [{"id": f"i{n}", "post_id": f"p{n}", "instruction": f"Question {n}?", "response": f"Answer {n}."} for n in range(rows)],
        tables.INSTRUCTIONS,
    )
    return path


def scored(path: Path, kept: tuple[bool, ...]) -> Path:
    blank = dict.fromkeys(tables.SCORED.names)
    tables.write(path, [blank | {"id": f"p{n}", "text": f"Post number {n}.", "kept": keep} for n, keep in enumerate(kept)], tables.SCORED)
    return path


def test_the_corpus_is_the_kept_posts_as_plain_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = read_samples("corpus", scored(tmp_path / "s.parquet", (True, False, True)), NOWHERE, NOWHERE, tokenizer, 64)
    assert [(post, sample.id) for post, sample in found] == [("p0", "p0"), ("p2", "p2")]
    assert list(found[1][1].tokens[:-1]) == tokenizer.tokens("Post number 2.")


@pytest.mark.parametrize("dataset", ["posts", "synthetic"])
def test_each_dataset_reads_its_own_table_and_remembers_the_post(tokenizer: Tokenizer, tmp_path: Path, dataset: str) -> None:
    table = instructions(tmp_path / "t.parquet")
    sources = (table, NOWHERE) if dataset == "posts" else (NOWHERE, table)
    found = read_samples(dataset, NOWHERE, *sources, tokenizer, 64)
    assert [(post, sample.id) for post, sample in found] == [("p0", "i0"), ("p1", "i1")]
    _, sample = found[1]
    assert list(sample.tokens[sample.start :]) == tokenizer.tokens("Answer 1.<|im_end|>")


def test_an_empty_table_is_refused_by_name(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t\.parquet: holds no row"):
        read_samples("posts", NOWHERE, instructions(tmp_path / "t.parquet", 0), NOWHERE, tokenizer, 64)
    with pytest.raises(InputError, match=r"s\.parquet: holds no row"):
        read_samples("corpus", scored(tmp_path / "s.parquet", (False, False)), NOWHERE, NOWHERE, tokenizer, 64)


PARAMETERS = """
sft: {datasets: [posts], steps: 3, checkpoint_every: 2, batch_size: 4, learning_rate: 1e-2, weight_decay: 0.01, warmup: 0.1}
tuning:
  lora: {rank: 4, alpha: 8, dropout: 0.0, attention: [q, v], mlp: true}
  precision: bf16
  held_out: 0.2
  max_length: 64
  clip: 1.0
  seed: 1
runtime: {sequences: 4, micro_batch: 3, device: cpu}
"""


def run(tiny_base: Path, folder: Path, dataset: str = "posts") -> Path:
    (folder / "params.yaml").write_text(PARAMETERS)
    target = folder / "models" / "adapters" / f"left-{dataset}"
    sft.main(dataset, tiny_base, NOWHERE, instructions(folder / "i.parquet", 20), NOWHERE, target)
    return target


def test_the_stage_leaves_checkpoints_and_a_log(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    target = run(tiny_base, tmp_path)
    assert sorted(path.name for path in target.iterdir()) == ["log.jsonl", "step-000002", "step-000003"]
    lines = [json.loads(line) for line in (target / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert "held_out_loss" in lines[-1]
    assert [path.name for path in target.parent.iterdir()] == ["left-posts"]


def test_a_dataset_that_is_not_listed_is_refused(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="does not list 'corpus', only posts"):
        run(tiny_base, tmp_path, "corpus")


@pytest.mark.usefixtures("ends_soon")
def test_a_table_of_which_every_row_is_held_out_is_refused(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMETERS.replace("held_out: 0.2", "held_out: 0.999999"))
    with pytest.raises(InputError, match="held_out"):
        sft.main("posts", tiny_base, NOWHERE, instructions(tmp_path / "i.parquet"), NOWHERE, tmp_path / "left-posts")


def test_the_corpus_is_packed_and_trains(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMETERS.replace("datasets: [posts]", "datasets: [corpus]"))
    sft.main("corpus", tiny_base, scored(tmp_path / "s.parquet", (True,) * 30), NOWHERE, NOWHERE, tmp_path / "left-corpus")
    samples, packed = map(int, re.findall(r"left-corpus: (\d+) samples, .* packed into (\d+)", capsys.readouterr().out)[0])
    assert packed <= samples / 5  # of about six tokens each, in 64
    lines = [json.loads(line) for line in (tmp_path / "left-corpus/log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_samples_longer_than_the_model_s_context_are_refused(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMETERS.replace("max_length: 64", "max_length: 600"))
    table = tmp_path / "i.parquet"
    tables.write(table, [{"id": f"i{n}", "post_id": f"p{n}", "instruction": "Why?", "response": "Because. " * 200} for n in range(3)], tables.INSTRUCTIONS)
    with pytest.raises(InputError, match=r"reads at most 256 tokens.*max_length"):
        sft.main("posts", tiny_base, NOWHERE, table, NOWHERE, tmp_path / "left-posts")


def test_four_bit_weights_need_a_gpu(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMETERS.replace("precision: bf16", "precision: bf16\n  base_precision: nf4"))
    with pytest.raises(InputError, match=r"base_precision: nf4 .* on GPUs"):
        sft.main("posts", tiny_base, NOWHERE, instructions(tmp_path / "i.parquet", 20), NOWHERE, tmp_path / "left-posts")


def test_which_datasets_there_are_is_no_part_of_a_schedule() -> None:
    own = {"steps": 4, "checkpoint_every": 2, "batch_size": 2, "learning_rate": 0.1, "weight_decay": 0.0, "warmup": 0.0}
    one, two = (sft.Params(datasets=datasets, **own).alone for datasets in (("posts",), ("posts", "corpus")))
    assert one.model_dump_json() == two.model_dump_json()
    assert one.model_dump() == own
