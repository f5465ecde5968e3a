"""Random Hugging Face folders in the shape of well-known checkpoints, with small tokenizers that were really trained."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from stages.llm.vocabulary import LLAMA3, PROBES, SPACE
from stages.tuning.architecture import Architecture

LLAMA_3_8B = Architecture(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=8192,
    rope_theta=5e5,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
)
TEXTS = [*PROBES, "The river rose by two metres after the storm, and the farmers moved their cattle to the hills before dark."] * 3
LLAMA3_CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MISTRAL_CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
SHAPES: dict[str, dict[str, Any]] = {
    "llama3": {"num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 5000.0, "rope_scaling": SCALING, "tie_word_embeddings": False},
    "mistral": {"num_attention_heads": 4, "num_key_value_heads": 1, "rope_theta": 1e6, "head_dim": 24, "sliding_window": None, "tie_word_embeddings": False},
    "smollm2": {"num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 1e5, "tie_word_embeddings": True},
}
SPECIAL = {
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "mistral": ["<unk>", "<s>", "</s>"],
    "smollm2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
}
ENDS = {"llama3": ("<|begin_of_text|>", "<|eot_id|>", LLAMA3_CHAT), "mistral": ("<s>", "</s>", MISTRAL_CHAT), "smollm2": ("<|im_start|>", "<|im_end|>", CHATML)}


def tokenizer(kind: str) -> Tokenizer:
    """A tokenizer as the checkpoints of that kind have it, of some hundred tokens."""
    if kind == "mistral":
        return sentence_piece()
    found = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    first = pre_tokenizers.Split(Regex(LLAMA3), "isolated") if kind == "llama3" else pre_tokenizers.Digits(individual_digits=True)
    found.pre_tokenizer = pre_tokenizers.Sequence([first, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind != "llama3")])
    found.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = SPECIAL[kind] if kind == "smollm2" else []  # Llama 3 numbers its special tokens after the others
    found.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False))
    if kind == "llama3":
        found.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL[kind]])
        found.post_processor = processors.TemplateProcessing("<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", found.token_to_id("<|begin_of_text|>"))])
    return found


def sentence_piece() -> Tokenizer:
    """BPE over blanks written as SPACE with bytes for the unknown; as in SentencePiece, a token may come of any two that make it."""
    blanks = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    learner = Tokenizer(models.BPE())
    learner.normalizer, learner.pre_tokenizer = blanks, pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    learner.train_from_iterator(TEXTS[:5], trainers.BpeTrainer(vocab_size=400, show_progress=False))
    learnt = sorted(learner.get_vocab(), key=learner.token_to_id)
    pieces = sorted((text for text in learnt if len(text) > 1), key=learnt.index)
    single = [text for text in learnt if len(text) == 1]
    vocabulary = {text: number for number, text in enumerate([*SPECIAL["mistral"], *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *single])}
    merges = [(text[:i], text[i:]) for text in pieces for i in range(1, len(text)) if text[:i] in vocabulary and text[i:] in vocabulary]
    found = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    found.normalizer = blanks
    found.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    found.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL["mistral"]])
    found.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return found


def config(kind: str, size: int, **changes: object) -> dict[str, Any]:
    """The config.json of a checkpoint of two layers."""
    name = "MistralForCausalLM" if kind == "mistral" else "LlamaForCausalLM"
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 512, "vocab_size": size, "rms_norm_eps": 1e-5}
    return {"architectures": [name], "model_type": name.removesuffix("ForCausalLM").lower(), "hidden_act": "silu", **sizes, **SHAPES[kind], **changes}


def tensors(described: dict[str, Any], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Random weights in Hugging Face's names and shapes."""
    generator = torch.Generator().manual_seed(0)
    width, inner, heads = described["hidden_size"], described["intermediate_size"], described["num_attention_heads"]
    size = described.get("head_dim", width // heads)
    queries, keys = heads * size, described["num_key_value_heads"] * size
    layer: dict[str, tuple[int, ...]] = {"input_layernorm": (width,), "post_attention_layernorm": (width,)}
    layer |= {f"self_attn.{name}_proj": shape for name, shape in (("q", (queries, width)), ("k", (keys, width)), ("v", (keys, width)), ("o", (width, queries)))}
    layer |= {"mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width), "mlp.down_proj": (width, inner)}
    all_shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (described["vocab_size"], width), "model.norm": (width,)}
    all_shapes |= {f"model.layers.{i}.{name}": shape for i in range(described["num_hidden_layers"]) for name, shape in layer.items()}
    if not described["tie_word_embeddings"]:
        all_shapes["lm_head"] = (described["vocab_size"], width)
    return {f"{name}.weight": (torch.randn(shape, generator=generator) * 0.15 + (len(shape) == 1)).to(dtype) for name, shape in all_shapes.items()}


def write(folder: Path, kind: str, *, shards: int = 1, spare: int = 3, dtype: torch.dtype = torch.bfloat16, **changes: object) -> Path:
    """A whole folder; ``spare``: rows of the embeddings without a token."""
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer(kind)
    words.save(str(folder / "tokenizer.json"))
    bos, eos, template = ENDS[kind]
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": bos, "eos_token": eos, "chat_template": template}))
    described = config(kind, words.get_vocab_size() + spare, **changes)
    (folder / "config.json").write_text(json.dumps(described))
    write_weights(folder, tensors(described, dtype), shards)
    return folder


def write_weights(folder: Path, found: dict[str, torch.Tensor], shards: int) -> None:
    """Weights in one file, or in several with an index."""
    if shards == 1:
        save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
        return
    places = {name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(found)}
    for place in names(places.values()):
        save_file({name: found[name] for name in found if places[name] == place}, folder / place, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def names(values: Iterable[str]) -> list[str]:
    """Each value once, in order."""
    return sorted(set(values))
