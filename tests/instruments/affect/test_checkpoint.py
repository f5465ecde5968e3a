from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from stages.core.errors import InputError
from stages.instruments.affect.checkpoint import Checkpoint

LABELS = ("joy", "fear", "anger")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "happy", "afraid", "angry", "bus"]
TEXTS = ["happy", "angry bus bus bus bus", "afraid bus"]


def save(folder: Path, names: tuple[str, ...], seed: int = 1) -> BertForSequenceClassification:
    """A tiny classifier with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, max_position_embeddings=16, initializer_range=2.0,
        id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return model


def logits(model: BertForSequenceClassification, text: str) -> torch.Tensor:
    tokens = [WORDS.index(word) for word in ("[CLS]", *text.split(), "[SEP]")]
    with torch.inference_mode():
        return model(input_ids=torch.tensor([tokens])).logits[0]


def test_each_output_of_a_multi_label_model_is_a_score_by_itself(tmp_path: Path) -> None:
    model = save(tmp_path, ("anger", "JOY", "scared"))
    found = Checkpoint(tmp_path, LABELS, {"fear": "scared"}, None, "cpu").scores(TEXTS)
    expected = [logits(model, text).sigmoid()[[1, 2, 0]].tolist() for text in TEXTS]
    assert found == pytest.approx(np.array(expected), abs=1e-5)
    assert found.std(axis=0).min() > 0.001


@pytest.mark.parametrize(("names", "positive"), [(("no", "yes"), None), (("yes", "no"), "yes")])
def test_ten_binary_models_are_as_good_as_one(tmp_path: Path, names: tuple[str, ...], positive: str | None) -> None:
    models = [save(tmp_path / label, names, seed) for seed, label in enumerate(LABELS)]
    found = Checkpoint(tmp_path, LABELS, {}, positive, "cpu").scores(TEXTS)
    expected = [[float(logits(model, text).softmax(0)[names.index("yes")]) for model in models] for text in TEXTS]
    assert found == pytest.approx(np.array(expected), abs=1e-5)


def test_a_binary_model_may_have_one_output(tmp_path: Path) -> None:
    model = save(tmp_path / "joy", ("joy",))
    found = Checkpoint(tmp_path, ("joy",), {}, None, "cpu").scores(TEXTS[:1])
    assert found == pytest.approx(np.array([[float(logits(model, TEXTS[0]).sigmoid()[0])]]), abs=1e-5)


def test_long_texts_are_cut_to_what_the_model_takes(tmp_path: Path) -> None:
    save(tmp_path, LABELS)
    assert Checkpoint(tmp_path, LABELS, {}, None, "cpu").scores(["bus " * 100]).shape == (1, 3)


def test_other_labels_than_declared_are_refused(tmp_path: Path) -> None:
    save(tmp_path, ("joy", "fear", "hopeless"))
    with pytest.raises(InputError, match=r"id2label has fear, hopeless, joy, but anger, fear, joy are declared"):
        Checkpoint(tmp_path, LABELS, {}, None, "cpu")


def test_a_label_without_a_binary_model_is_named(tmp_path: Path) -> None:
    save(tmp_path / "joy", ("no", "yes"))
    with pytest.raises(InputError, match="neither a config.json nor a folder with one for fear, anger"):
        Checkpoint(tmp_path, LABELS, {}, None, "cpu")


@pytest.mark.parametrize(("names", "problem"), [(("a", "b", "c"), "has 3 classes"), (("no", "yes"), "has no, yes and no 'moral'")])
def test_a_binary_model_with_other_classes_is_refused(tmp_path: Path, names: tuple[str, ...], problem: str) -> None:
    save(tmp_path / "joy", names)
    with pytest.raises(InputError, match=problem):
        Checkpoint(tmp_path, ("joy",), {}, "moral", "cpu")


def test_weights_that_can_run_code_are_refused(tmp_path: Path) -> None:
    model = save(tmp_path, LABELS)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"holds no \.safetensors file"):
        Checkpoint(tmp_path, LABELS, {}, None, "cpu")


def test_a_broken_file_of_weights_is_refused(tmp_path: Path) -> None:
    save(tmp_path, LABELS)
    (tmp_path / "model.safetensors").write_bytes(b"\x10")
    with pytest.raises(InputError, match="is no sequence classifier that can be read"):
        Checkpoint(tmp_path, LABELS, {}, None, "cpu")
