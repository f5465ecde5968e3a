import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torchtune.modules import TransformerDecoder

from stages.tuning import losses
from stages.tuning.data import Sample, joined, pack
from stages.tuning.losses import chunk_size, preference_loss, sample_log_probabilities, token_log_probabilities

CPU = torch.device("cpu")


def samples(*lengths: int, start: int = 3) -> list[Sample]:
    generator = torch.Generator().manual_seed(5)
    return [Sample(str(i), tuple(torch.randint(300, (n,), generator=generator).tolist()), start, False) for i, n in enumerate(lengths)]


def plain(model: TransformerDecoder, found: list[Sample]) -> torch.Tensor:
    """The same from all logits of each text alone."""
    values = []
    for sample in found:
        tokens = torch.tensor([sample.tokens])
        logs = model(tokens).float().log_softmax(dim=-1)[0, :-1].gather(1, tokens[0, 1:, None])[:, 0]
        values.append(logs[sample.start - 1 :])
    return torch.cat(values)


def gradients(model: TransformerDecoder, values: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    (values * torch.linspace(-1, 2, len(values))).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("tied", [True, False])
def test_values_and_gradients_equal_those_of_all_logits(tiny: Callable[..., Any], tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOGITS", 300 * 80)
    _, model = tiny(tied=tied)
    texts = samples(90, 40, 70)
    batch = joined(texts, CPU)
    assert (batch.targets >= 0).sum() == 87 + 37 + 67 > 2 * chunk_size(300, "cpu")  # more than two chunks, the last one not full
    values, _ = token_log_probabilities(model, batch)
    expected = plain(model, texts)
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)
    found, wanted = gradients(model, values), gradients(model, expected)
    assert found.keys() == wanted.keys() and all("lora_" in name for name in found) and len(found) == 2 * 7 * 2
    for name, gradient in wanted.items():
        assert gradient.any()
        torch.testing.assert_close(found[name], gradient, atol=1e-5 * float(gradient.abs().max()), rtol=1e-3)


def test_each_value_belongs_to_its_sample(tiny: Callable[..., Any]) -> None:
    _, model = tiny()
    texts = samples(9, 4, 6)
    values, owner = token_log_probabilities(model, joined(texts, CPU))
    assert owner.tolist() == [0] * 6 + [1] * 1 + [2] * 3
    torch.testing.assert_close(sample_log_probabilities(model, texts, CPU), torch.stack([values[owner == i].sum() for i in range(3)]))


def test_other_samples_do_not_change_log_probabilities(tiny: Callable[..., Any]) -> None:
    _, model = tiny()
    found = samples(9, 25, 13)
    alone = torch.cat([sample_log_probabilities(model, [sample], CPU) for sample in found])
    torch.testing.assert_close(sample_log_probabilities(model, found, CPU), alone, atol=1e-4, rtol=1e-5)


def test_the_prompt_is_read_but_not_scored(tiny: Callable[..., Any]) -> None:
    _, model = tiny()
    (sample,) = samples(10, start=6)
    other = Sample("0", (299 - sample.tokens[0], *sample.tokens[1:]), 6, False)
    values, _ = token_log_probabilities(model, joined([sample], CPU))
    others, _ = token_log_probabilities(model, joined([other], CPU))
    assert len(values) == 4
    assert not torch.allclose(values, others, atol=1e-4)


def test_the_preference_loss_of_an_example_by_hand() -> None:
    # log π = -1 (chosen), -5 (rejected); the reference has -2 and -3: gains 1 and -2, so with β = 0.5 the margin is 0.5 (1 + 2) = 1.5
    losses, margins = preference_loss(torch.tensor([-1.0, -5.0]), torch.tensor([-2.0, -3.0]), 0.5)
    assert margins.item() == pytest.approx(1.5)
    assert losses.item() == pytest.approx(math.log(1 + math.exp(-1.5)))


def test_chosen_answers_come_first_then_rejected() -> None:
    losses, margins = preference_loss(torch.tensor([-1.0, -2.0, -5.0, -2.5]), torch.tensor([-2.0, -2.0, -3.0, -2.0]), 1.0)
    assert margins.tolist() == pytest.approx([1 + 2, 0 + 0.5])
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(-3)), math.log1p(math.exp(-0.5))])


def test_the_preference_loss_is_log_2_at_the_reference() -> None:
    logs = torch.tensor([-3.0, -70.0, -4.5, -1.0])
    losses, margins = preference_loss(logs, logs, 0.3)
    assert losses.tolist() == pytest.approx([math.log(2)] * 2)
    assert margins.tolist() == [0, 0]


def test_swapping_chosen_and_rejected_turns_the_margin_around() -> None:
    policy, reference = torch.tensor([-3.0, -7.0, -4.5, -1.0]), torch.tensor([-2.0, -9.0, -4.0, -3.0])
    losses, margins = preference_loss(policy, reference, 0.7)
    swapped_losses, swapped = preference_loss(policy.roll(2), reference.roll(2), 0.7)
    torch.testing.assert_close(swapped, -margins)
    torch.testing.assert_close(swapped_losses - losses, margins)  # log sigmoid(m) - log sigmoid(-m) = m


def test_the_gradient_pulls_answers_apart_by_the_papers_weight() -> None:
    policy = torch.tensor([-1.0, -5.0], requires_grad=True)
    losses, margins = preference_loss(policy, torch.tensor([-2.0, -3.0]), 0.5)
    losses.sum().backward()
    weight = 0.5 * (1 - torch.sigmoid(margins)).item()  # β σ(-margin)
    assert policy.grad is not None and policy.grad.tolist() == pytest.approx([-weight, weight])


def test_a_larger_vocabulary_has_fewer_tokens_at_once() -> None:
    assert chunk_size(49152, "cpu") == 256
    assert chunk_size(128256, "cpu") * 128256 <= losses.LOGITS
    assert chunk_size(10**7, "cpu") == 16  # fewer would leave the processor idle


def test_no_gradient_is_computed_where_none_is_asked_for(tiny: Callable[..., Any]) -> None:
    _, model = tiny()
    texts = samples(9, 4)
    with torch.no_grad():
        values, _ = token_log_probabilities(model, joined(texts, CPU))
    torch.testing.assert_close(values, plain(model, texts).detach(), atol=1e-5, rtol=1e-5)
    assert not values.requires_grad


def test_packed_texts_are_evaluated_as_if_each_stood_alone(tiny: Callable[..., Any]) -> None:
    _, model = tiny()
    texts = samples(9, 25, 13, 6, start=1)
    packed = pack(texts, 40)
    assert sorted(len(sample.tokens) for sample in packed) == [15, 38]  # 25 + 13 and 9 + 6
    values, _ = token_log_probabilities(model, joined(packed, CPU))
    alone, _ = token_log_probabilities(model, joined(texts, CPU))
    torch.testing.assert_close(values.sort().values, alone.sort().values, atol=1e-4, rtol=1e-5)
    found, wanted = gradients_of_sum(model, values), gradients_of_sum(model, alone)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4 * float(gradient.abs().max()), rtol=1e-3)


def gradients_of_sum(model: TransformerDecoder, values: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    values.sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
