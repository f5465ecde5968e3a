from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFValueType
from torchtune.modules import TransformerDecoder

from stages.tuning import weights
from stages.tuning.architecture import Architecture, Lora, build

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
REST = {"max_position_embeddings": 256, "rope_theta": 10000.0, "rms_norm_eps": 1e-5}
LORA = Lora(rank=4, alpha=8.0, dropout=0.0, attention=("q", "k", "v", "output"), mlp=True)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., tuple[Architecture, TransformerDecoder]]:
    """A random Llama, written to ``tmp_path / "tiny"`` and loaded from there; ``filled``: with an adapter that changes its answers."""

    def make(*, tied: bool = True, lora: Lora = LORA, filled: bool = True, seed: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Architecture, TransformerDecoder]:
        architecture = Architecture.model_validate({**SIZES, **REST, "vocab_size": 300, "tie_word_embeddings": tied})
        torch.manual_seed(0)
        shapes = {name: p.shape for name, p in build(architecture, lora).named_parameters() if "lora_" not in name}
        values = {name: (torch.randn(shape) * 0.15 + name.endswith("scale")).to(dtype) for name, shape in shapes.items()}
        weights.write_folder(tmp_path / "tiny", architecture, values)
        architecture, model = weights.load_model(tmp_path / "tiny", lora, torch.device("cpu"), seed)
        for name, parameter in model.named_parameters():
            if filled and "lora_b" in name:
                torch.nn.init.normal_(parameter, std=0.15)
        return architecture, model

    return make


@pytest.fixture
def small_gguf(tmp_path: Path) -> Callable[..., Path]:
    """A complete random checkpoint of two layers as float32; metadata and tensors can be left out or added."""

    def make(name: str = "llama", without: Sequence[str] = (), extra: Sequence[str] = (), facts: Mapping[str, Any] = MappingProxyType({})) -> Path:
        file = tmp_path / "small.gguf"
        writer = gguf.GGUFWriter(file, name)
        dimensions = {
            "embedding_length": 64,
            "feed_forward_length": 128,
            "block_count": 2,
            "attention.head_count": 4,
            "attention.head_count_kv": 2,
            "context_length": 256,
        }
        for key, value in dimensions.items():
            if key not in without:
                writer.add_uint32(f"{name}.{key}", value)
        for key, number in {"rope.freq_base": 5000.0, "attention.layer_norm_rms_epsilon": 1e-5}.items():
            if key not in without:
                writer.add_float32(f"{name}.{key}", number)
        for key, fact in facts.items():
            writer.add_key_value(key, fact, GGUFValueType.get_type(fact))
        block = {"attn_norm": (64,), "ffn_norm": (64,), "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64)}
        block |= {"ffn_gate": (128, 64), "ffn_up": (128, 64), "ffn_down": (64, 128)}
        shapes = {"token_embd": (300, 64), "output_norm": (64,), "output": (300, 64)} | {f"blk.{i}.{key}": shape for i in range(2) for key, shape in block.items()}
        random = np.random.default_rng(0)
        for key, shape in [*shapes.items(), *((key, (8,)) for key in extra)]:
            if key not in without:
                writer.add_tensor(f"{key}.weight", random.normal(size=shape).astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return file

    return make


@pytest.fixture
def real_tokens_base(base_model: Path, tmp_path: Path) -> Path:
    """A base folder that trains in no time: the real tokenizer beside small random weights."""
    architecture = Architecture.model_validate({**SIZES, **REST, "vocab_size": 49152, "tie_word_embeddings": True})
    torch.manual_seed(0)
    shapes = {name: p.shape for name, p in build(architecture, LORA).named_parameters() if "lora_" not in name}
    folder = tmp_path / "real-tokens"
    weights.write_folder(folder, architecture, {name: (torch.randn(shape) * 0.15 + name.endswith("scale")).bfloat16() for name, shape in shapes.items()})
    (folder / "model.gguf").symlink_to(base_model / "model.gguf")
    return folder
