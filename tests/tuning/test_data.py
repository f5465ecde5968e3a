import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as HuggingFaceTokenizer

from stages.core.errors import InputError
from stages.llm.tokenizer import Tokenizer, tokenizer_of
from stages.models import base
from stages.tuning.data import Sample, answer_sample, batches, held_out, joined, pack, require_rows, split, text_sample
from tests import checkpoints

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer(base_model: Path) -> Iterator[Tokenizer]:
    with tokenizer_of(base_model / "model.gguf") as found:
        yield found


def marker(tokenizer: Tokenizer, text: str) -> int:
    (token,) = tokenizer.tokens(text)
    return token


def test_an_answer_follows_its_prompt_in_the_chat_form_and_ends_its_turn(tokenizer: Tokenizer) -> None:
    sample = answer_sample(tokenizer, "r1", "Who won?", "The home side did.", 200)
    prompt, answer = sample.tokens[: sample.start], sample.tokens[sample.start :]
    assert list(answer) == [*tokenizer.tokens("The home side did."), marker(tokenizer, "<|im_end|>")]
    assert list(prompt[-len(tokenizer.tokens("<|im_start|>assistant\n")) :]) == tokenizer.tokens("<|im_start|>assistant\n")
    asked = tokenizer.tokens("<|im_start|>user\nWho won?<|im_end|>\n")
    assert any(list(prompt[i : i + len(asked)]) == asked for i in range(len(prompt)))
    assert (sample.id, sample.truncated) == ("r1", False)


def test_only_the_answer_s_tokens_are_targets(tokenizer: Tokenizer) -> None:
    short, long = (answer_sample(tokenizer, "r", "Who won?", text, 200) for text in ("Nobody.", "The home side did, by a wide margin."))
    batch = joined([short, long], CPU)
    assert batch.tokens.tolist() == [[*short.tokens, *long.tokens]]
    assert batch.owners.tolist() == [[0] * len(short.tokens) + [1] * len(long.tokens)]
    for targets, sample in zip(batch.targets[0].split([len(short.tokens), len(long.tokens)]), (short, long), strict=True):
        assert targets[: sample.start - 1].tolist() == [-1] * (sample.start - 1)
        assert targets[sample.start - 1 : -1].tolist() == list(sample.tokens[sample.start :])  # each is asked for one position before it stands
        assert targets[-1] == -1
        assert targets[-2] == marker(tokenizer, "<|im_end|>")


def test_a_long_answer_is_cut_and_says_so(tokenizer: Tokenizer) -> None:
    whole = answer_sample(tokenizer, "r", "Who won?", "word " * 100, 500)
    cut = answer_sample(tokenizer, "r", "Who won?", "word " * 100, 60)
    assert (len(cut.tokens), cut.truncated, whole.truncated) == (60, True, False)
    assert cut.tokens == whole.tokens[:60] and cut.start == whole.start


def test_an_answer_that_just_fits_is_not_cut(tokenizer: Tokenizer) -> None:
    n = len(answer_sample(tokenizer, "r", "Who won?", "Nobody.", 200).tokens)
    assert not answer_sample(tokenizer, "r", "Who won?", "Nobody.", n).truncated
    assert answer_sample(tokenizer, "r", "Who won?", "Nobody.", n - 1).truncated


def test_a_prompt_without_room_for_an_answer_stops_with_its_row(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"row r7: .* 64 of tuning\.max_length"):
        answer_sample(tokenizer, "r7", "why " * 80, "Because.", 64)


def test_plain_text_is_learnt_without_chat_form_from_its_second_token(tokenizer: Tokenizer) -> None:
    sample = text_sample(tokenizer, "p", "Taxes are too high.", 200)
    assert list(sample.tokens[:-1]) == tokenizer.tokens("Taxes are too high.", special=False)
    assert sample.tokens[-1] in tokenizer.ending
    assert sample.start == 1
    assert joined([sample], CPU).targets[0].tolist() == [*sample.tokens[1:], -1]


@pytest.mark.parametrize(("kind", "first"), [("llama3", ["<|begin_of_text|>"]), ("mistral", ["<s>"]), ("smollm2", [])])
def test_plain_text_begins_as_the_model_s_own_tokenizer_begins_it(tmp_path: Path, kind: str, first: list[str]) -> None:
    source = checkpoints.write(tmp_path / "source", kind)
    base.convert(source, "F16", tmp_path / "base")
    original = HuggingFaceTokenizer.from_file(str(source / "tokenizer.json"))
    with tokenizer_of(tmp_path / "base" / "model.gguf") as tokenizer:
        sample = text_sample(tokenizer, "p", "The mayor's plan.", 200)
    assert list(sample.tokens[:-1]) == original.encode("The mayor's plan.").ids
    assert [original.id_to_token(token) for token in sample.tokens[: len(first)]] == first
    assert joined([sample], CPU).targets[0].tolist() == [*sample.tokens[1:], -1]  # with a token before it, the text's own first one is learnt too


def test_markers_in_plain_text_do_not_become_special_tokens(tokenizer: Tokenizer) -> None:
    assert marker(tokenizer, "<|im_start|>") not in text_sample(tokenizer, "p", "a post with <|im_start|> in it", 200).tokens


def test_targets_of_an_example_by_hand() -> None:
    batch = joined([Sample("a", (5, 6, 7), 1, False), Sample("b", (8, 9, 4, 3, 2), 3, False)], CPU)
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 9, 4, 3, 2]]
    assert batch.targets.tolist() == [[6, 7, -1, -1, -1, 3, 2, -1]]
    assert batch.owners.tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]]
    assert batch.texts.positions.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4]]


def test_about_the_share_is_held_out() -> None:
    ids = [f"post {i}" for i in range(4000)]
    for share in (0.1, 0.5):
        deviation = (share * (1 - share) / len(ids)) ** 0.5
        assert abs(sum(held_out(ids, share)) / len(ids) - share) < 4 * deviation
    assert not any(held_out(ids, 0.0))


def test_what_is_held_out_does_not_depend_on_other_rows() -> None:
    ids = [f"post {i}" for i in range(300)]
    before = dict(zip(ids, held_out(ids, 0.2), strict=True))
    more = [f"new {i}" for i in range(50)] + ids[::-1] + ids[:5]
    after = held_out(more, 0.2)
    assert all(out == before[post] for post, out in zip(more, after, strict=True) if post in before)
    assert all(out for out, smaller in zip(held_out(ids, 0.4), before.values(), strict=True) if smaller)  # a larger share keeps the same ones out


@pytest.mark.parametrize(("n", "size"), [(10, 3), (7, 7), (3, 8)])
def test_every_index_comes_once_an_epoch(n: int, size: int) -> None:
    flat = [i for batch in itertools.islice(batches(n, size, 1), 4 * n) for i in batch]
    for first in range(0, len(flat) // n * n, n):
        assert sorted(flat[first : first + n]) == list(range(n))


def test_the_order_changes_with_the_epoch_and_the_seed_only() -> None:
    def order(seed: int) -> list[list[int]]:
        return list(itertools.islice(batches(40, 40, seed), 2))

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1)[0] != order(1)[1]


def test_an_empty_table_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"left\.parquet: holds no row"):
        require_rows([], "left.parquet")
    require_rows([{}], "left.parquet")


def texts(*lengths: int) -> list[Sample]:
    return [Sample(str(i), tuple(range(100 * i, 100 * i + n)), 1, i == 0) for i, n in enumerate(lengths)]


def test_packing_keeps_every_token_and_fits() -> None:
    found = pack(texts(9, 25, 13, 6, 40, 2), 40)
    assert [len(sample.tokens) for sample in found] == [40, 40, 15]  # 40, 25 + 13 + 2, 9 + 6
    assert sorted(token for sample in found for token in sample.tokens) == sorted(token for sample in texts(9, 25, 13, 6, 40, 2) for token in sample.tokens)
    assert [sample.packed for sample in found] == [(), (25, 13, 2), (9, 6)]
    assert [sample.truncated for sample in found] == [False, False, True]
    assert pack([], 40) == []


def test_the_first_token_of_a_packed_text_is_no_target() -> None:
    (sample,) = pack(texts(3, 2), 8)
    assert sample.tokens == (0, 1, 2, 100, 101) and list(sample.targets) == [1, 2, 4]
    batch = joined([sample, Sample("z", (7, 8, 9, 6, 5, 4), 2, False)], CPU)
    assert batch.targets.tolist() == [[1, 2, -1, 101, -1, -1, 9, 6, 5, 4, -1]]
    assert batch.owners.tolist() == [[0] * 5 + [1] * 6]
    assert batch.texts.positions.tolist() == [[0, 1, 2, 0, 1, 0, 1, 2, 3, 4, 5]]
    assert (batch.texts.count, batch.texts.longest) == (3, 6)


def test_splitting_that_leaves_nothing_is_refused() -> None:
    training, kept_out = split([(f"p{i}", i) for i in range(100)], 0.3, "left")
    assert sorted([*training, *kept_out]) == list(range(100)) and training and kept_out
    with pytest.raises(InputError, match="left without the tuning.held_out share of 0.99"):
        split([("p", 1)], 0.999999, "left")
