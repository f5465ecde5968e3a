from collections.abc import Callable
from typing import Any

import pytest
import torch

from stages.tuning.architecture import hidden_states
from stages.tuning.branches import branched

CPU = torch.device("cpu")
TAILS = [(20,), (20, 8), (31,)]
SETS = {
    "a common beginning": [(5, 9, 7, 11), (5, 9, 8), (5, 9, 7, 12, 13)],
    "nothing in common": [(5, 9, 7), (4, 8)],
    "one begins another": [(5, 9), (5, 9, 7)],
    "one alone": [(5, 9, 7)],
    "of one token": [(5,), (6,)],
}


def alone(model: Any, text: tuple[int, ...]) -> torch.Tensor:
    return hidden_states(model, torch.tensor([text]))[0, -1]


@pytest.mark.parametrize("prompts", SETS.values(), ids=SETS)
def test_every_state_and_gradient_is_that_of_the_text_alone(tiny: Callable[..., Any], prompts: list[tuple[int, ...]]) -> None:
    _, model = tiny()
    model.float()
    texts = [[prompt, *((*prompt, *tail) for tail in TAILS)] for prompt in prompts]
    pull = torch.randn(len(prompts), 1 + len(TAILS), 64, generator=torch.Generator().manual_seed(2))
    expected = torch.stack([torch.stack([alone(model, text) for text in row]) for row in texts])
    (expected * pull).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    tokens, branches, places = branched(prompts, TAILS, CPU)
    found = hidden_states(model, tokens, branches)[0][places]
    (found * pull).sum().backward()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    for name, p in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(p.grad, gradients[name], atol=1e-3, rtol=1e-3)


def test_what_is_common_is_in_the_row_once() -> None:
    tokens, branches, places = branched(SETS["a common beginning"], TAILS, CPU)
    assert tokens.tolist() == [[5, 9, 7, 11, 20, 8, 31, 8, 20, 8, 31, 7, 12, 13, 20, 8, 31]]
    assert branches.positions.tolist() == [[0, 1, 2, 3, 4, 5, 4, 2, 3, 4, 3, 2, 3, 4, 5, 6, 5]]
    assert places.tolist() == [[3, 4, 5, 6], [7, 8, 9, 10], [13, 14, 15, 16]]


def test_without_tails_there_are_the_prompts(tiny: Callable[..., Any]) -> None:
    _, model = tiny()
    model.float()
    prompts = SETS["a common beginning"]
    tokens, branches, places = branched(prompts, [], CPU)
    with torch.no_grad():
        torch.testing.assert_close(hidden_states(model, tokens, branches)[0][places][:, 0], torch.stack([alone(model, prompt) for prompt in prompts]), atol=1e-4, rtol=1e-3)
