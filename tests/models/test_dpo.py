import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from stages.core import tables
from stages.core.errors import InputError
from stages.llm.tokenizer import Tokenizer, tokenizer_of
from stages.models import dpo
from stages.models.dpo import Preference, read_pairs
from stages.tuning.data import Pair, Sample
from stages.tuning.losses import sample_log_probabilities

CPU = torch.device("cpu")
LENGTHS = [(9, 12), (25, 4), (14, 14), (6, 21), (19, 8)]


@pytest.fixture(scope="module")
def tokenizer(base_model: Path) -> Iterator[Tokenizer]:
    with tokenizer_of(base_model / "model.gguf") as found:
        yield found


def pairs() -> list[Pair]:
    generator = torch.Generator().manual_seed(5)

    def sample(n: int) -> Sample:
        return Sample("", tuple(torch.randint(300, (n,), generator=generator).tolist()), 3, False)

    return [Pair(str(i), sample(chosen), sample(rejected)) for i, (chosen, rejected) in enumerate(LENGTHS)]


def swapped(found: Sequence[Pair]) -> list[Pair]:
    return [Pair(pair.id, pair.rejected, pair.chosen) for pair in found]


def preference(model: Any, training: Sequence[Pair], kept_out: Sequence[Pair] = (), micro_batch: int = 5, beta: float = 0.1) -> Preference:
    objective = Preference(model, training, kept_out, CPU, micro_batch, beta)
    objective.compute_reference()
    return objective


def loss_and_gradient(objective: Preference) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    objective.model.zero_grad()
    figures = {"loss": 0.0, "accuracy": 0.0, "margin": 0.0}
    for loss, shares in objective.parts(range(len(objective))):
        loss.backward()
        for name, value in {"loss": loss.detach(), **shares}.items():
            figures[name] += float(value)
    return figures, {name: p.grad.clone() for name, p in objective.model.named_parameters() if p.grad is not None}


def test_the_loss_of_three_tokens_by_hand(bigrams: Callable[..., Any]) -> None:
    # Answers of two tokens to the prompt 0. The reference gives 1 then 2: 1/2 · 1/4, and 2 then 2: 1/4 · 1/2.
    reference = [[0.25, 0.5, 0.25], [0.5, 0.25, 0.25], [0.2, 0.3, 0.5]]
    # The policy gives them 3/4 · 1/2 and 1/8 · 1/2: the chosen answer gains a factor of 3, the rejected one loses a factor of 2.
    policy = [[0.125, 0.75, 0.125], [0.25, 0.25, 0.5], [0.2, 0.3, 0.5]]
    pair = Pair("a", Sample("a", (0, 1, 2), 1, False), Sample("a", (0, 2, 2), 1, False))
    before = preference(bigrams(reference), [pair])
    after = Preference(bigrams(policy), [pair], [], CPU, 1, beta=0.5)
    after.reference = before.reference
    assert before.reference["a"].tolist() == pytest.approx([math.log(1 / 8), math.log(1 / 8)], rel=1e-4)
    figures, _ = loss_and_gradient(after)
    margin = 0.5 * (math.log(3) - math.log(1 / 2))
    assert figures["margin"] == pytest.approx(margin, rel=1e-3)
    assert figures["loss"] == pytest.approx(-math.log(1 / (1 + math.exp(-margin))), rel=1e-3)
    assert figures["accuracy"] == 1


def test_a_fresh_adapter_is_at_the_reference(tiny: Callable[..., Any]) -> None:
    figures, gradient = loss_and_gradient(preference(tiny(filled=False), pairs()))
    assert figures["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert figures["margin"] == pytest.approx(0, abs=1e-4)
    assert any(value.abs().max() > 0 for value in gradient.values())


def test_the_reference_is_the_base_without_its_adapter(tiny: Callable[..., Any]) -> None:
    objective = preference(tiny(filled=True), pairs()[:3], pairs()[3:], micro_batch=2)
    base = tiny(filled=False)
    for pair in pairs():
        expected = torch.cat([sample_log_probabilities(base, [sample], CPU) for sample in (pair.chosen, pair.rejected)])
        torch.testing.assert_close(objective.reference[pair.id], expected.detach(), atol=1e-3, rtol=1e-5)


def test_the_adapter_is_back_after_the_reference(tiny: Callable[..., Any]) -> None:
    model = tiny()
    tokens = torch.arange(10)[None]
    before = model(tokens)
    preference(model, pairs())
    assert torch.equal(model(tokens), before)


def test_how_many_are_evaluated_at_once_changes_neither_loss_nor_gradient(tiny: Callable[..., Any]) -> None:
    model = tiny()
    whole, gradient = loss_and_gradient(preference(model, pairs()))
    assert abs(whole["margin"]) > 0.01 and len(gradient) == 2 * 5 * 2
    for size in (1, 2, 3):
        figures, found = loss_and_gradient(preference(model, pairs(), micro_batch=size))
        assert figures == pytest.approx(whole, rel=1e-3, abs=1e-5)
        for name, wanted in gradient.items():
            torch.testing.assert_close(found[name], wanted, atol=1e-4 * float(wanted.abs().max()), rtol=1e-3)


def test_swapping_the_answers_turns_margin_and_accuracy_around(tiny: Callable[..., Any]) -> None:
    model = tiny()
    one, _ = loss_and_gradient(preference(model, pairs()))
    other, _ = loss_and_gradient(preference(model, swapped(pairs())))
    assert other["margin"] == pytest.approx(-one["margin"], rel=1e-3)
    assert other["accuracy"] == pytest.approx(1 - one["accuracy"])


def test_held_out_pairs_are_measured_like_training_ones(tiny: Callable[..., Any]) -> None:
    model = tiny()
    expected, _ = loss_and_gradient(preference(model, pairs()))
    with torch.no_grad():
        assert preference(model, [], pairs(), micro_batch=2).held_out() == pytest.approx(expected | {"pairs": 5}, rel=1e-3, abs=1e-5)
        assert preference(model, pairs()).held_out() == {}


def test_tokens_count_both_answers(tiny: Callable[..., Any]) -> None:
    assert preference(tiny(), pairs()).tokens([1, 4]) == 25 + 4 + 19 + 8


ROW = {"prompt": "Who is right?", "chosen": "We are.", "rejected": "They are."}


def write_table(path: Path, *changes: dict[str, str | None]) -> Path:
    rows = [{"id": f"r{i}", "post_id": f"p{i}", **ROW, **change} for i, change in enumerate(changes)]
    tables.write(path, rows, tables.PREFERENCES)
    return path


def write_public(path: Path, *changes: dict[str, str]) -> Path:
    pq.write_table(pa.Table.from_pylist([ROW | change for change in changes]), path)
    return path


def test_pairs_keep_the_id_and_the_post_of_their_row(tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = read_pairs(write_table(tmp_path / "t.parquet", {}, {"chosen": "I am."}), tokenizer, 64)
    assert [(post, pair.id) for post, pair in found] == [("p0", "r0"), ("p1", "r1")]
    pair = found[1][1]
    assert list(pair.chosen.tokens[pair.chosen.start :]) == tokenizer.tokens("I am.<|im_end|>")
    assert list(pair.rejected.tokens[pair.rejected.start :]) == tokenizer.tokens("They are.<|im_end|>")
    assert pair.chosen.tokens[: pair.chosen.start] == pair.rejected.tokens[: pair.rejected.start]


def test_public_sets_of_three_columns_are_read(tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = write_public(tmp_path / "public.parquet", {}, {"prompt": "Who else is right?"})
    found, again = read_pairs(file, tokenizer, 64), read_pairs(file, tokenizer, 64)
    assert found == again
    assert len({pair.id for _, pair in found}) == 2
    assert list(found[0][1].chosen.tokens[found[0][1].chosen.start :]) == tokenizer.tokens("We are.<|im_end|>")


def test_rows_that_share_prompt_and_chosen_answer_have_their_own_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = read_pairs(write_public(tmp_path / "public.parquet", {}, {"rejected": "Nobody is."}), tokenizer, 64)
    assert len({pair.id for _, pair in found}) == 2  # the reference is kept by id


@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
def test_a_missing_column_is_named(tokenizer: Tokenizer, tmp_path: Path, column: str) -> None:
    file = tmp_path / "public.parquet"
    pq.write_table(pa.Table.from_pylist([{key: value for key, value in ROW.items() if key != column}]), file)
    with pytest.raises(InputError, match=rf"public\.parquet: column {column} is missing"):
        read_pairs(file, tokenizer, 64)


@pytest.mark.parametrize("bad", [{"chosen": ""}, {"rejected": " \n"}, {"chosen": None}, {"rejected": "We are."}])
def test_empty_or_equal_answers_are_refused_with_their_rows(tokenizer: Tokenizer, tmp_path: Path, bad: dict[str, str | None]) -> None:
    with pytest.raises(InputError, match=r"t\.parquet: 2 rows .*id r1, r3\. "):
        read_pairs(write_table(tmp_path / "t.parquet", {}, bad, {}, bad), tokenizer, 64)


def test_a_row_without_prompt_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="r1"):
        read_pairs(write_table(tmp_path / "t.parquet", {}, {"prompt": None}), tokenizer, 64)


def test_an_empty_table_is_refused_by_name(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t\.parquet: holds no row"):
        read_pairs(write_table(tmp_path / "t.parquet"), tokenizer, 64)


PARAMETERS = """
dpo: {beta: 0.1, steps: 6, checkpoint_every: 4, batch_size: 2, learning_rate: 1e-2, weight_decay: 0.0, warmup: 0.1}
tuning:
  lora: {rank: 4, alpha: 8, dropout: 0.0, attention: [q, v], mlp: true}
  precision: bf16
  held_out: 0.0
  max_length: 64
  clip: 1.0
  seed: 1
runtime: {sequences: 4, micro_batch: 1, device: cpu}
"""


def test_the_stage_learns_a_repeated_pair(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMETERS)
    target = tmp_path / "models" / "adapters" / "left-preference"
    dpo.main(tiny_base, write_table(tmp_path / "t.parquet", {}, {}), target)
    assert sorted(path.name for path in target.iterdir()) == ["log.jsonl", "step-000004", "step-000006"]
    lines = [json.loads(line) for line in (target / "log.jsonl").read_text().splitlines()]
    assert lines[0].keys() == {"step", "tokens_seen", "loss", "accuracy", "margin", "gradient_norm", "learning_rate"}
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=0.02)
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert lines[-1]["accuracy"] == 1 and lines[-1]["margin"] > lines[0]["margin"]


@pytest.mark.usefixtures("ends_soon")
def test_a_table_of_which_every_row_is_held_out_is_refused(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMETERS.replace("held_out: 0.0", "held_out: 0.999999"))
    with pytest.raises(InputError, match="held_out"):
        dpo.main(tiny_base, write_table(tmp_path / "t.parquet", {}, {}), tmp_path / "left-preference")


def test_the_reference_is_kept_for_the_next_run(tiny: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "reference.safetensors"
    first = Preference(tiny(), pairs(), [], CPU, 5, 0.1)
    first.compute_reference(file)
    again = Preference(None, pairs()[::-1], [], CPU, 5, 0.1)  # type: ignore[arg-type]  # there is no model to ask
    again.compute_reference(file)
    assert all(torch.equal(again.reference[pair.id], first.reference[pair.id]) for pair in pairs())
    file.write_bytes(file.read_bytes()[:-3])
    first.compute_reference(file)
    assert f"{file}: is damaged" in capsys.readouterr().err
    assert first.reference.keys() == again.reference.keys()


def test_prompts_without_room_for_an_answer_are_refused_with_their_rows(tokenizer: Tokenizer, tmp_path: Path) -> None:
    long = {"prompt": "Why? " * 80}
    with pytest.raises(InputError, match=r"t\.parquet: in 2 rows .*id r1, r3\."):
        read_pairs(write_table(tmp_path / "t.parquet", {}, long, {}, long), tokenizer, 64)
