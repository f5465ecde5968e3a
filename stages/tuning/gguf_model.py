"""A base model as one GGUF file for llama.cpp, from the weights that are trained."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from safetensors import safe_open

from stages.llm.vocabulary import Vocabulary
from stages.tuning import weights
from stages.tuning.architecture import Architecture, rope_factors
from stages.tuning.weights import GGUF_NAMES

TO_GGUF = {ours: theirs for theirs, ours in GGUF_NAMES.items()}


def write(file: Path, folder: Path, architecture: Architecture, vocabulary: Vocabulary) -> None:
    """Write ``file`` from the ``model.safetensors`` of ``folder`` (Hugging Face's layout), one tensor in memory at a time.

    Matrices stay bfloat16; the vectors of norms, which llama.cpp wants so, and RoPE's factors become float32.
    """
    writer = GGUFWriter(file, "llama")
    _add_dimensions(writer, architecture)
    vocabulary.add_to(writer)
    with safe_open(folder / "model.safetensors", framework="pt") as source:
        for name, tensor in _tensors(source, architecture):
            shape, size = tuple(tensor.shape), tensor.nbytes if tensor.ndim > 1 else 4 * tensor.numel()
            kind = GGMLQuantizationType.BF16 if tensor.ndim > 1 else GGMLQuantizationType.F32
            writer.add_tensor_info(name, shape, torch.empty(0, dtype=torch.float32).numpy().dtype, size, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, tensor in _tensors(source, architecture):
            writer.write_tensor_data((tensor.contiguous().view(torch.int16) if tensor.ndim > 1 else tensor.float()).numpy())
    writer.close()


def _add_dimensions(writer: GGUFWriter, architecture: Architecture) -> None:
    a = architecture
    writer.add_file_type(LlamaFileType.MOSTLY_BF16)
    writer.add_vocab_size(a.vocab_size)
    writer.add_context_length(a.max_position_embeddings)
    writer.add_embedding_length(a.hidden_size)
    writer.add_block_count(a.num_hidden_layers)
    writer.add_feed_forward_length(a.intermediate_size)
    writer.add_head_count(a.num_attention_heads)
    writer.add_head_count_kv(a.num_key_value_heads)
    writer.add_key_length(a.head_dim)
    writer.add_value_length(a.head_dim)
    writer.add_rope_dimension_count(a.head_dim)
    writer.add_rope_freq_base(a.rope_theta)
    writer.add_layer_norm_rms_eps(a.rms_norm_eps)


def _tensors(source: Any, architecture: Architecture) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor by its name in GGUF, in GGUF's interleaved rotary layout, which is torchtune's."""
    if architecture.rope_scaling:
        yield "rope_freqs.weight", rope_factors(architecture)
    for name in source.keys():  # noqa: SIM118  # the file is no dictionary
        for ours, tensor in weights.from_hugging_face({name: source.get_tensor(name)}, architecture).items():
            layer, _, rest = ours.removeprefix("layers.").partition(".") if ours.startswith("layers.") else ("", "", ours)
            yield f"blk.{layer}.{TO_GGUF[rest]}" if layer else TO_GGUF[rest], tensor
