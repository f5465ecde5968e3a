import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from stages.core.errors import InputError
from stages.tuning import metadata
from stages.tuning.architecture import Architecture, RopeScaling, rope_factors
from stages.tuning.metadata import config, from_config, from_gguf, scaled_by
from tests import checkpoints

LLAMA_31_8B = checkpoints.LLAMA_3_8B.model_copy(
    update={
        "max_position_embeddings": 131072,
        "rope_scaling": RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192),
    }
)


def read(tmp_path: Path, content: dict[str, Any]) -> Architecture:
    (tmp_path / "config.json").write_text(json.dumps(content))
    return from_config(tmp_path / "config.json")


def llama(**changes: object) -> dict[str, Any]:
    return checkpoints.config("llama3", 300, **changes)


def test_a_config_reads_back_as_it_was_written(tmp_path: Path) -> None:
    assert read(tmp_path, config(LLAMA_31_8B) | {"pad_token_id": 2}) == LLAMA_31_8B
    assert config(LLAMA_31_8B)["architectures"] == ["LlamaForCausalLM"]


def test_rotary_settings_are_read_in_the_form_of_transformers_4_and_5(tmp_path: Path) -> None:
    old = llama()
    new = {key: value for key, value in old.items() if key not in ("rope_theta", "rope_scaling")}
    assert read(tmp_path, new | {"rope_parameters": {"rope_theta": old["rope_theta"], **old["rope_scaling"]}}) == read(tmp_path, old)
    plain = read(tmp_path, new | {"rope_parameters": {"rope_theta": 7000.0, "rope_type": "default"}})
    assert (plain.rope_theta, plain.rope_scaling) == (7000.0, None)


def test_what_is_left_out_has_the_defaults_of_transformers(tmp_path: Path) -> None:
    names = ("num_key_value_heads", "rope_theta", "rope_scaling", "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings")
    found = read(tmp_path, {key: value for key, value in llama().items() if key not in names})
    assert (found.num_key_value_heads, found.rope_theta, found.rope_scaling, found.rms_norm_eps) == (4, 10000.0, None, 1e-6)
    assert (found.tie_word_embeddings, found.max_position_embeddings, found.head_dim) == (False, 2048, 16)


def test_a_sliding_window_bounds_the_context(tmp_path: Path) -> None:
    mistral = checkpoints.config("mistral", 300)
    assert read(tmp_path, mistral | {"sliding_window": 128}).max_position_embeddings == 128
    assert read(tmp_path, mistral | {"sliding_window": None}).max_position_embeddings == 512
    left_out = {key: value for key, value in mistral.items() if key != "sliding_window"} | {"max_position_embeddings": 32768}
    assert read(tmp_path, left_out).max_position_embeddings == 4096  # transformers' default for Mistral


@pytest.mark.parametrize("name", ["Qwen2ForCausalLM", "GemmaForCausalLM", "MixtralForCausalLM", "LlamaForSequenceClassification"])
def test_another_architecture_is_refused_by_name_with_those_that_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"config\.json: is of architecture '{name}'.*Llama 1 to 3, Mistral 7B, SmolLM2"):
        read(tmp_path, llama(architectures=[name]))


@pytest.mark.parametrize(
    ("key", "value"),
    [("attention_bias", True), ("mlp_bias", True), ("hidden_act", "gelu"), ("partial_rotary_factor", 0.5), ("quantization_config", {"quant_method": "gptq"})],
)
def test_what_would_be_computed_otherwise_is_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"config\.json: {key} is "):
        read(tmp_path, llama(**{key: value}))


def test_other_ways_to_scale_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="by the method 'yarn'; only 'llama3'"):
        read(tmp_path, llama(rope_scaling={"type": "yarn", "factor": 4.0}))
    with pytest.raises(InputError, match=r"rope_scaling\.factor"):
        read(tmp_path, llama(rope_scaling={"rope_type": "llama3"}))


def test_missing_and_impossible_dimensions_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)vocab_size.*intermediate_size"):
        read(tmp_path, {key: value for key, value in llama().items() if key not in ("intermediate_size", "vocab_size")})
    with pytest.raises(InputError, match="num_key_value_heads must divide 4"):
        read(tmp_path, llama(num_key_value_heads=3))


def test_the_factors_of_llama_3_1_are_meta_s() -> None:
    # wavelengths below 8192 / 4 stay, those above 8192 become 8 times as long, and s grows linearly with 1 / wavelength between them
    waves = 2 * math.pi * 500000.0 ** (np.arange(64) / 64)
    s = np.clip((8192 / waves - 1) / 3, 0, 1)
    np.testing.assert_allclose(rope_factors(LLAMA_31_8B).numpy(), 1 / ((1 - s) / 8 + s), rtol=1e-5)


@pytest.mark.parametrize(("size", "length", "factor"), [(128, 8192, 8.0), (64, 8192, 32.0), (16, 64, 8.0), (4, 64, 2.0)])
def test_a_scaling_is_found_again_from_its_factors(size: int, length: int, factor: float) -> None:
    scaling = {"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": length}
    wanted = Architecture.model_validate(LLAMA_31_8B.model_dump() | {"head_dim": size, "rope_scaling": scaling})
    factors = rope_factors(wanted).numpy().astype(np.float64)
    found = scaled_by(Architecture.model_validate(wanted.model_dump() | {"rope_scaling": None}), factors, Path("x.gguf"))
    np.testing.assert_allclose(rope_factors(found).numpy(), factors, rtol=1e-4)
    if size > 4:  # two rotations, none of them between, fit many lengths
        assert found == wanted


@pytest.mark.parametrize("factors", [[1, 1, 3, 1, 1, 1, 1, 1], [1, 1, 2, 3, 4, 4, 4, 9], [0, 1, 1, 1, 1, 1, 1, 8]])
def test_factors_of_another_method_are_refused(factors: list[float]) -> None:
    plain = Architecture.model_validate(LLAMA_31_8B.model_dump() | {"head_dim": 16, "rope_scaling": None})
    with pytest.raises(InputError, match=r"x\.gguf: rope_freqs\.weight: scales the rotary embedding otherwise than Llama 3"):
        scaled_by(plain, np.array(factors, dtype=np.float64), Path("x.gguf"))
    with pytest.raises(InputError, match="holds 3 factors for heads 16 wide"):
        scaled_by(plain, np.ones(3), Path("x.gguf"))


def test_metadata_and_tensors_of_a_gguf_checkpoint_are_read(small_gguf: Callable[..., Path]) -> None:
    found = from_gguf(GGUFReader(small_gguf()), Path("x"))
    assert (found.vocab_size, found.hidden_size, found.intermediate_size, found.num_hidden_layers) == (300, 64, 128, 2)
    assert (found.num_attention_heads, found.num_key_value_heads, found.max_position_embeddings, found.rope_theta) == (4, 2, 256, 5000.0)
    assert (found.head_dim, found.rope_scaling, found.tie_word_embeddings) == (16, None, False)


def test_a_gguf_checkpoint_without_output_layer_is_tied(small_gguf: Callable[..., Path]) -> None:
    assert from_gguf(GGUFReader(small_gguf(without=["output"])), Path("x")).tie_word_embeddings


def test_optional_metadata_have_the_format_s_defaults(small_gguf: Callable[..., Path]) -> None:
    found = from_gguf(GGUFReader(small_gguf(without=["attention.head_count_kv", "rope.freq_base"])), Path("x"))
    assert (found.num_key_value_heads, found.rope_theta) == (4, 10000.0)


def test_missing_metadata_are_named(small_gguf: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"x\.gguf.*llama\.block_count"):
        from_gguf(GGUFReader(small_gguf(without=["block_count"])), Path("x.gguf"))


def test_another_architecture_of_a_gguf_file_is_refused_by_name(small_gguf: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"x\.gguf.*'gpt2'.*Llama 1 to 3, Mistral"):
        from_gguf(GGUFReader(small_gguf("gpt2")), Path("x.gguf"))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"split.count": 3}, "one of 3 parts. Merge them"),
        ({"llama.rope.scaling.type": "yarn"}, "by the method 'yarn'"),
        ({"llama.rope.dimension_count": 8}, r"llama\.rope\.dimension_count is 8 where the heads are 16 wide"),
    ],
)
def test_a_gguf_file_that_cannot_be_computed_is_refused(small_gguf: Callable[..., Path], facts: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"x\.gguf: .*{message}"):
        from_gguf(GGUFReader(small_gguf(facts=facts)), Path("x.gguf"))


def test_a_gguf_vocabulary_must_fit_the_embeddings_and_know_chats(small_gguf: Callable[..., Path]) -> None:
    words = [f"w{i}" for i in range(300)]
    with pytest.raises(InputError, match=r"x\.gguf: its tokenizer has 0 tokens and its embeddings are 300"):
        metadata.check_vocabulary(GGUFReader(small_gguf()), Path("x.gguf"))
    with pytest.raises(InputError, match="has 299 tokens and its embeddings are 300"):
        metadata.check_vocabulary(GGUFReader(small_gguf(facts={"tokenizer.ggml.tokens": words[1:]})), Path("x.gguf"))
    with pytest.raises(InputError, match="holds no chat template"):
        metadata.check_vocabulary(GGUFReader(small_gguf(facts={"tokenizer.ggml.tokens": words})), Path("x.gguf"))
    metadata.check_vocabulary(GGUFReader(small_gguf(facts={"tokenizer.ggml.tokens": words, "tokenizer.chat_template": "{{ messages }}"})), Path("x.gguf"))
