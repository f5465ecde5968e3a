import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as HuggingFaceTokenizer
from torchtune.modules import TransformerDecoder

from stages.core import tables
from stages.core.errors import InputError
from stages.llm.llamacpp import LlamaCpp
from stages.llm.tokenizer import tokenizer_of
from stages.models import base, dpo, sft
from stages.tuning import metadata, weights
from stages.tuning.architecture import Lora
from tests import checkpoints
from tests.logits import llama_logits

CPU = torch.device("cpu")
LORA = Lora(rank=4, alpha=8.0, dropout=0.0, attention=("q", "k", "v", "output"), mlp=True)
KINDS = ["llama3", "mistral", "smollm2"]
TEXT = " ".join(checkpoints.PROBES[:3])
PARAMETERS = """
base: {{checkpoint: {checkpoint}, layout: F16}}
sft: {{datasets: [posts], steps: 2, checkpoint_every: 2, batch_size: 4, learning_rate: 3e-2, weight_decay: 0.01, warmup: 0.1}}
dpo: {{beta: 0.1, steps: 4, checkpoint_every: 4, batch_size: 4, learning_rate: 3e-2, weight_decay: 0.0, warmup: 0.1}}
tuning:
  lora: {{rank: 4, alpha: 8, dropout: 0.0, attention: [q, k, v, output], mlp: true}}
  precision: bf16
  held_out: 0.0
  max_length: 128
  clip: 1.0
  seed: 1
runtime: {{sequences: 4, micro_batch: 2, device: cpu}}
"""


def torch_logits(model: TransformerDecoder, tokens: Sequence[int]) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model.float()(torch.tensor([list(tokens)]))[0].numpy())


def adapted(folder: Path, adapter: Path) -> TransformerDecoder:
    """The model of ``folder`` with the matrices of ``adapter_model.safetensors`` multiplied into its weights, all in Hugging Face's layout."""
    merged, update = load_file(folder / "model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    settings = json.loads((adapter / "adapter_config.json").read_text())
    for key in [key for key in update if "lora_A" in key]:
        name = key.removeprefix("base_model.model.").replace("lora_A.", "")
        merged[name] = merged[name].float() + settings["lora_alpha"] / settings["r"] * update[key.replace("lora_A", "lora_B")] @ update[key]
    copy = folder.with_name(f"{folder.name}-merged")
    copy.mkdir(exist_ok=True)
    (copy / "config.json").write_text((folder / "config.json").read_text())
    save_file(merged, copy / "model.safetensors")
    return weights.load_model(copy, LORA, CPU, 1, "fp32")[1]


def agree(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] >= 0.995
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.95


def convert(checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    Path("params.yaml").write_text(PARAMETERS.format(checkpoint=checkpoint))
    base.main(folder / "models" / "base")
    return folder / "models" / "base"


def train(folder: Path, ready: Path) -> tuple[Path, Path]:
    answers = [{"id": f"i{n}", "post_id": f"p{n}", "instruction": f"Question {n}?", "response": "The mayor's plan."} for n in range(8)]
    tables.write(folder / "answers.parquet", answers, tables.INSTRUCTIONS)
    pairs = [{"id": f"i{n}", "post_id": f"p{n}", "prompt": f"Question {n}?", "chosen": "The mayor's plan.", "rejected": "Numbers: 42."} for n in range(8)]
    tables.write(folder / "pairs.parquet", pairs, tables.PREFERENCES)
    nowhere, adapters = folder / "nowhere", folder / "models" / "adapters"
    sft.main("posts", ready, nowhere, folder / "answers.parquet", nowhere, adapters / "left-posts")
    dpo.main(ready, folder / "pairs.parquet", adapters / "left-preference")
    return adapters / "left-posts" / "step-000002", adapters / "left-preference" / "step-000004"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["folder", "gguf"])
def test_a_checkpoint_goes_from_base_over_training_to_llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, form: str) -> None:
    source = checkpoints.write(tmp_path / "source", kind, shards=2)
    ready = convert(source, tmp_path / "first", monkeypatch)
    if form == "gguf":
        ready = convert(ready / "model.gguf", tmp_path / "second", monkeypatch)
    adapters = train(tmp_path, ready)
    original = HuggingFaceTokenizer.from_file(str(source / "tokenizer.json"))
    with LlamaCpp(ready / "model.gguf", sequences=1, context=256) as llm:
        tokens = llm.tokenizer.tokens(TEXT)
        assert tokens == original.encode(TEXT, add_special_tokens=False).ids
        without = llama_logits(llm, tokens)
        agree(torch_logits(weights.load_model(ready, LORA, CPU, 1)[1], tokens), without)
        for adapter in adapters:
            llm.attach(adapter / "adapter.gguf")
            theirs, ours = llama_logits(llm, tokens), torch_logits(adapted(ready, adapter), tokens)
            agree(ours, theirs)
            assert (ours - theirs).std() < 0.3 * (theirs - without).std()  # what is left apart is small beside what the adapter changed


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_written_reads_back_as_the_folder_it_came_from(tmp_path: Path, kind: str) -> None:
    source = checkpoints.write(tmp_path / "source", kind, dtype=torch.float32)
    first, second = tmp_path / "first", tmp_path / "second"
    base.convert(source, "BF16", first)
    base.convert(first / "model.gguf", "BF16", second)
    described, again = (metadata.from_config(folder / "config.json").model_dump() for folder in (first, second))
    assert again == described | {"rms_norm_eps": pytest.approx(1e-5)}  # a float32 in GGUF
    expected = {name: tensor.bfloat16() for name, tensor in load_file(source / "model.safetensors").items()}
    for folder in (first, second):
        found = load_file(folder / "model.safetensors")
        assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_context_of_llama_cpp_scales_the_rotary_embedding_too(tmp_path: Path) -> None:
    source = checkpoints.write(tmp_path / "source", "llama3")
    base.convert(source, "BF16", tmp_path / "scaled")
    (source / "config.json").write_text((source / "config.json").read_text().replace('"factor": 8.0', '"factor": 1.0'))
    base.convert(source, "BF16", tmp_path / "plain")
    with LlamaCpp(tmp_path / "scaled" / "model.gguf", sequences=1, context=256) as llm:
        tokens = (llm.tokenizer.tokens(TEXT) * 3)[:200]
        scaled = llama_logits(llm, tokens)
    with LlamaCpp(tmp_path / "plain" / "model.gguf", sequences=1, context=256) as llm:
        plain = llama_logits(llm, tokens)
    ours = torch_logits(weights.load_model(tmp_path / "scaled", LORA, CPU, 1)[1], tokens)
    assert np.abs(ours - scaled).mean() < 0.2 * np.abs(ours - plain).mean()


def test_a_folder_is_complete_for_transformers_and_leaves_no_other_file(tmp_path: Path) -> None:
    source = checkpoints.write(tmp_path / "source", "llama3", shards=3)
    base.convert(source, "Q8_0", tmp_path / "base")
    assert {path.name for path in (tmp_path / "base").iterdir()} == {"config.json", "model.safetensors", "model.gguf", "tokenizer.json", "tokenizer_config.json"}
    with tokenizer_of(tmp_path / "base" / "model.gguf") as tokenizer:
        assert tokenizer.size == json.loads((source / "config.json").read_text())["vocab_size"]


def test_a_tokenizer_of_another_checkpoint_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = checkpoints.write(tmp_path / "source", "smollm2", spare=0)
    checkpoints.tokenizer("llama3").save(str(source / "tokenizer.json"))
    with pytest.raises(InputError, match=r"tokenizer\.json: numbers its tokens up to 504, and the model has embeddings for 500"):
        convert(source, tmp_path / "here", monkeypatch)
    assert list((tmp_path / "here" / "models").iterdir()) == []
