"""Affect told by a sequence classifier in a Hugging Face folder that the user brings; needs the dependency group `affect-hf`.

Two forms: one folder whose model has an output for each label (config.json, model.safetensors, tokenizer), each made a score by the logistic function;
or a folder that holds a folder for each label with a model of two classes (the second is the label, or the one that `positive` names) or of one
output. Weights are read from safetensors alone, and no code from a folder is run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from stages.core.errors import InputError
from stages.instruments.affect.classifier import Floats

BATCH = 32
LONGEST = 512
"tokens; what is longer is cut"


class Checkpoint:
    """One folder with an output for each label, or one for each label."""

    def __init__(self, folder: Path, labels: tuple[str, ...], names: Mapping[str, str], positive: str | None, device: str = "auto") -> None:
        """Load it; ``names`` gives the model's name of a label where it differs, ``positive`` the class of two that means the label.

        :raises InputError: if the folder cannot be read, has no safetensors, or has other labels than declared.
        """
        device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.labels, self._device = labels, device
        if (folder / "config.json").exists():
            model, tokenizer = _load(folder, device)
            self._parts = [(model, tokenizer, _columns(folder, model, [names.get(label, label) for label in labels]))]
            self._binary = False
            return
        if missing := [label for label in labels if not (folder / names.get(label, label) / "config.json").exists()]:
            raise InputError(f"{folder}: holds neither a config.json nor a folder with one for {', '.join(missing)}. Give a sequence classifier, or one for each label.")
        self._binary = True
        self._parts = []
        for label in labels:
            model, tokenizer = _load(folder / names.get(label, label), device)
            self._parts.append((model, tokenizer, [_positive(folder / names.get(label, label), model, positive)]))

    def scores(self, texts: Sequence[str]) -> Floats:
        """See :class:`stages.instruments.affect.classifier.Classifier`."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # alike lengths together: less padding
        found = np.zeros((len(texts), len(self.labels)))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            parts = [self._score([texts[i] for i in rows], *part) for part in self._parts]
            found[rows] = np.concatenate(parts, axis=1)
        return found

    def _score(self, texts: list[str], model: Any, tokenizer: Any, columns: list[int]) -> Floats:
        limit = min(LONGEST, getattr(model.config, "max_position_embeddings", LONGEST) - 2)  # RoBERTa counts positions from 2
        given = tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            logits = model(**given).logits.float()  # [b, outputs]
        two = self._binary and logits.shape[1] == 2
        probabilities = logits.softmax(dim=1) if two else logits.sigmoid()
        return np.asarray(probabilities[:, columns].cpu().numpy(), dtype=np.float64)


def _load(folder: Path, device: str) -> tuple[Any, Any]:
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: PLC0415  # optional
    except ImportError as error:
        raise InputError(f"{folder}: needs the package transformers. Install the dependency group `affect-hf`.") from error
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: holds no .safetensors file. Convert the weights: other formats can run code when they are read.")
    try:
        model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: is no sequence classifier that can be read: {error}. Download the folder again, with its tokenizer.") from error
    return model.to(device).eval(), tokenizer


def _columns(folder: Path, model: Any, names: Sequence[str]) -> list[int]:
    """Which output belongs to each label."""
    outputs = {str(name).lower(): int(index) for index, name in model.config.id2label.items()}
    if set(outputs) != set(names):
        raise InputError(
            f"{folder}: config.json: id2label has {', '.join(sorted(outputs))}, but {', '.join(sorted(names))} are declared. "
            f"Set `labels` and `names` of this classifier in params.yaml to what the model was trained on."
        )
    return [outputs[name] for name in names]


def _positive(folder: Path, model: Any, positive: str | None) -> int:
    """Which output of a binary model means that the text has the label."""
    outputs = {str(name).lower(): int(index) for index, name in model.config.id2label.items()}
    if len(outputs) > 2:
        raise InputError(f"{folder}: config.json: id2label has {len(outputs)} classes ({', '.join(outputs)}). A model of one label has one or two.")
    if positive is None or len(outputs) == 1:
        return len(outputs) - 1
    if positive.lower() not in outputs:
        raise InputError(f"{folder}: config.json: id2label has {', '.join(outputs)} and no '{positive}'. Set `positive` of this classifier in params.yaml.")
    return outputs[positive.lower()]
