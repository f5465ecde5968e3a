import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torchtune.modules import TransformerDecoder

from stages.tuning import weights
from stages.tuning.architecture import Architecture, Lora, build

WIDTH = 64
LORA = Lora(rank=4, alpha=8.0, dropout=0.0, attention=("q", "v"), mlp=True)


def architecture(vocabulary: int, *, tied: bool) -> Architecture:
    return Architecture(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rope_theta=10000.0,
        rms_norm_eps=1e-12,
        tie_word_embeddings=tied,
    )


def random_weights(found: Architecture) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    shapes = {name: p.shape for name, p in build(found, LORA).named_parameters() if "lora_" not in name}
    return {name: torch.randn(shape) * 0.15 + name.endswith("scale") for name, shape in shapes.items()}


@pytest.fixture
def ends_soon() -> Iterator[None]:
    """Turns a loop without end into a failure."""

    def stop(_signal: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., TransformerDecoder]:
    """A random Llama; ``filled``: with an adapter that changes its answers."""

    def make(*, filled: bool = True) -> TransformerDecoder:
        found = architecture(300, tied=True)
        weights.write_folder(tmp_path / "tiny", found, random_weights(found))
        _, model = weights.load_model(tmp_path / "tiny", LORA, torch.device("cpu"), 1)
        for name, parameter in model.named_parameters():
            if filled and "lora_b" in name:
                torch.nn.init.normal_(parameter, std=0.15)
        return model

    return make


@pytest.fixture
def bigrams(tmp_path: Path) -> Callable[[Sequence[Sequence[float]]], TransformerDecoder]:
    """A Llama whose next token depends on the last one only, by a table of probabilities [last, next].

    Its attention and feed-forward layers add nothing, so the state after token i is the embedding √d e_i, whose mean square is 1
    already, and the output layer W = log table / √d turns it into the logits log table[i].
    """

    def make(table: Sequence[Sequence[float]]) -> TransformerDecoder:
        found = architecture(len(table), tied=False)
        values = {name: torch.ones_like(v) if name.endswith("scale") else torch.zeros_like(v) for name, v in random_weights(found).items()}
        values["tok_embeddings.weight"] = WIDTH**0.5 * torch.eye(len(table), WIDTH)
        values["output.weight"][:, : len(table)] = torch.tensor(table).log().T / WIDTH**0.5
        weights.write_folder(tmp_path / "bigrams", found, values)
        return weights.load_model(tmp_path / "bigrams", LORA, torch.device("cpu"), 1)[1]

    return make


@pytest.fixture
def tiny_base(base_model: Path, tmp_path: Path) -> Path:
    """A base folder that trains in no time: the real tokenizer beside small random weights."""
    found = architecture(49152, tied=True)
    folder = tmp_path / "models" / "base"
    weights.write_folder(folder, found, {name: value.bfloat16() for name, value in random_weights(found).items()})
    (folder / "model.gguf").symlink_to(base_model / "model.gguf")
    return folder
