from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy, wasserstein_distance
from torch.autograd import gradcheck

from stages.llm.options import OptionTree
from stages.tuning.opinion import Adversary, Distance, answer_states, option_log_probabilities, parity_gap, performance, reluctance

CPU = torch.device("cpu")
ONES = torch.ones(4, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(3)


def distributions(n: int = 4, k: int = 3) -> torch.Tensor:
    return torch.rand(n, k, dtype=torch.float64).softmax(dim=-1)


def test_the_distance_to_one_answer_is_the_cross_entropy() -> None:
    q = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    said = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    expected = torch.nn.functional.nll_loss(q.log(), torch.tensor([1, 2]))
    torch.testing.assert_close(performance(q.log(), said, torch.ones(2), "kl"), expected)


def test_the_distance_to_a_group_is_scipys() -> None:
    p, q = distributions(), distributions()
    kl = np.mean([entropy(one, other) for one, other in zip(p.numpy(), q.numpy(), strict=True)])
    steps = np.mean([wasserstein_distance([0, 1, 2], [0, 1, 2], one, other) / 2 for one, other in zip(p.numpy(), q.numpy(), strict=True)])
    assert float(performance(q.log(), p, ONES, "kl")) == pytest.approx(kl)
    assert float(performance(q.log(), p, ONES, "wasserstein")) == pytest.approx(steps)


def test_a_respondent_counts_by_weight() -> None:
    p, q = distributions(2), distributions(2)
    each = [float(performance(q[i : i + 1].log(), p[i : i + 1], ONES[:1], "kl")) for i in range(2)]
    assert float(performance(q.log(), p, torch.tensor([0.5, 1.5]), "kl")) == pytest.approx((0.5 * each[0] + 1.5 * each[1]) / 2)


def test_far_options_are_worse_than_near_ones_only_where_order_counts() -> None:
    said = torch.tensor([[1.0, 0.0, 0.0]])
    near, far = torch.tensor([[0.2, 0.6, 0.2]]), torch.tensor([[0.2, 0.2, 0.6]])
    one = torch.ones(1)
    assert float(performance(near.log(), said, one, "kl")) == pytest.approx(float(performance(far.log(), said, one, "kl")))
    assert float(performance(near.log(), said, one, "wasserstein")) == pytest.approx((0.8 + 0.2) / 2)
    assert float(performance(far.log(), said, one, "wasserstein")) == pytest.approx((0.8 + 0.6) / 2)


def test_real_differences_between_groups_cost_nothing_and_flattened_ones_do() -> None:
    real = torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    groups, weights = torch.tensor([0, 0, 1]), torch.tensor([1.0, 3.0, 1.0])
    as_they_are = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]])  # the weighted mean of the first two is .8
    assert float(parity_gap(as_they_are.log(), weights, groups, real)) == pytest.approx(0, abs=1e-12)
    flattened = torch.full((3, 2), 0.5)  # a difference of .5 in each of two options is missing
    assert float(parity_gap(flattened.log(), weights, groups, real)) == pytest.approx(0.25)


def test_all_pairs_of_groups_are_compared_and_nobody_else() -> None:
    real = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.3, 0.7]])
    q = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.9, 0.1]])
    found = float(parity_gap(q.log(), torch.ones(4), torch.tensor([0, 1, 2, -1]), real))
    assert found == pytest.approx((0.3**2 + 0.5**2 + 0.2**2) / 3)
    assert float(parity_gap(q.log(), torch.ones(4), torch.tensor([1, 1, -1, -1]), real)) == 0


@pytest.mark.parametrize("distance", ["kl", "wasserstein"])
def test_the_gradient_of_performance_is_the_numeric_one(distance: Distance) -> None:
    p, logits = distributions(), torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda z: performance(z.log_softmax(dim=-1), p, torch.tensor([0.5, 1.0, 2.0, 0.5]), distance), logits)


def test_the_gradient_of_fairness_is_the_numeric_one() -> None:
    real, logits = distributions(3), torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    groups = torch.tensor([0, 1, 2, 0])
    assert gradcheck(lambda z: parity_gap(z.log_softmax(dim=-1), torch.tensor([0.5, 1.0, 2.0, 0.5]), groups, real), logits)


def numeric(function: Callable[[], float], values: torch.Tensor, step: float = 1e-6) -> torch.Tensor:
    found = torch.zeros_like(values)
    with torch.no_grad():
        for i in range(values.numel()):
            flat = values.view(-1)
            was = float(flat[i])
            flat[i] = was + step
            above = function()
            flat[i] = was - step
            below = function()
            flat[i] = was
            found.view(-1)[i] = (above - below) / (2 * step)
    return found


def test_the_adversary_descends_and_the_model_ascends() -> None:
    adversary = Adversary(5, 3).double()
    states, labels = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), torch.tensor([0, 2, -1, 1])
    loss, _ = adversary(states, labels)
    loss.backward()

    def value() -> float:
        return float(adversary(states, labels)[0])

    assert states.grad is not None
    torch.testing.assert_close(states.grad, -numeric(value, states))
    for parameter in adversary.parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, numeric(value, parameter))
    assert not states.grad[2].any()  # nothing is known of that respondent


def test_an_adversary_that_reads_the_attribute_is_right() -> None:
    adversary = Adversary(2, 2)
    with torch.no_grad():
        adversary.head.weight.copy_(torch.tensor([[9.0, 0.0], [0.0, 9.0]]))
        adversary.head.bias.zero_()
    states = torch.eye(2)
    assert float(adversary(states, torch.tensor([0, 1]))[1]) == 1
    assert float(adversary(states, torch.tensor([0, 0]))[1]) == 0.5
    assert [float(found.detach()) for found in adversary(states, torch.tensor([-1, -1]))] == [0, 0]


@pytest.mark.parametrize(
    "options",
    [
        [(20,), (21,), (22,)],
        [(20, 7), (20, 8, 9), (21,)],
        [(20,), (20, 8), (21, 3)],  # the first begins the second
    ],
)
def test_an_option_is_the_product_of_its_tokens(tiny: Callable[..., Any], options: list[tuple[int, ...]]) -> None:
    _, model = tiny(dtype=torch.float32)
    model.float()
    prompts, ending, tree = [(5, 9, 7, 11), (4, 8)], [2, 3], OptionTree(options, [2, 3])

    def chain(prompt: tuple[int, ...], option: tuple[int, ...]) -> float:
        total = 0.0
        for i, token in enumerate(option):
            total += float(model(torch.tensor([[*prompt, *option[:i]]]))[0, -1].float().log_softmax(dim=-1)[token])
        if any(other != option and other[: len(option)] == option for other in options):
            total += float(model(torch.tensor([[*prompt, *option]]))[0, -1].float().log_softmax(dim=-1)[ending].logsumexp(dim=0))
        return total

    with torch.no_grad():
        log_q, log_mass = option_log_probabilities(model, answer_states(model, prompts, tree, CPU), tree, ending)
        expected = torch.tensor([[chain(prompt, option) for option in options] for prompt in prompts])
    torch.testing.assert_close(log_q, expected.log_softmax(dim=1), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(log_mass, expected.logsumexp(dim=1), atol=1e-4, rtol=1e-3)


def test_a_model_that_gives_the_options_half_of_the_time_is_reluctant_by_the_logarithm_of_2() -> None:
    assert float(reluctance(torch.tensor([0.5, 1.0]).log(), torch.tensor([1.5, 0.5]))) == pytest.approx(1.5 * np.log(2) / 2)
