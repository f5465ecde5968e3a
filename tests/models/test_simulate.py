import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.core.errors import InputError
from stages.core.params import parse
from stages.llm import prompts
from stages.llm.interface import choices
from stages.llm.llamacpp import LlamaCpp
from stages.llm.options import OptionTree
from stages.llm.tokenizer import Tokenizer, tokenizer_of
from stages.models import simulate
from stages.models.simulate import Params, Simulation, check, prepare, require_comparisons, split, spread
from stages.surveys import interviews
from stages.surveys.asking import ask
from stages.surveys.interviews import Interviews
from stages.surveys.panels import Panel, Sample
from stages.tuning import weights
from stages.tuning.architecture import Lora
from stages.tuning.opinion import Adversary, answer_states, option_log_probabilities, parity_gap, performance, reluctance

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TASK = prompts.load(ROOT / "prompts/simulate.yaml")
OPTIONS = ("too much", "about right", "too little")
ENDING = [2]
LABELS = ((20, 7), (20, 8), (21,))
TREE = OptionTree(LABELS, ENDING)
VALUES = {
    "alpha": 1.0,
    "beta": 0.0,
    "gamma": 0.0,
    "target": "group",
    "groups": ["party"],
    "shrinkage": 0.0,
    "distance": "kl",
    "parity": "party",
    "hidden": "ideology",
    "panel": 4,
    "validation": 2,
    "steps": 3,
    "checkpoint_every": 3,
    "batch_size": 2,
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "warmup": 0.1,
}


def settings(**changes: Any) -> Params:
    return Params.model_validate(VALUES | changes)


@pytest.fixture(scope="module")
def tokenizer(base_model: Path) -> Iterator[Tokenizer]:
    with tokenizer_of(base_model / "model.gguf") as found:
        yield found


def row(i: int, item: str = "parks") -> dict[str, Any]:
    party, order = ["left", "right"][i % 2], [[0, 1, 2], [2, 1, 0]][i // 2 % 2]
    answer = order.index(2 if party == "left" else 0)
    said = {"id": f"{item}{i}", "respondent": str(i), "item": item, "wording": "form", "persona": f"Party: {party}", "question": f"What of {item}?"}
    said |= {"options": [OPTIONS[place] for place in order], "order": order, "answer": answer, "weight": 1.0, "split": "train", "synthetic": False}
    return said | {"party": party, "ideology": ["liberal", "conservative", None][i % 3]}


ROWS = [row(i, item) for item in ("parks", "roads") for i in range(24)]
TABLE = Interviews(Path("train.parquet"), ROWS, ("party", "ideology"), ("party",))


def panel(n: int = 4) -> Panel:
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(300, (n, 9), generator=generator).tolist()
    samples = tuple(Sample(tuple(tokens[i][: 9 - i]), (0.2, 0.3, 0.5), 0.5 + i / 3, i % 2, i % 3 - 1) for i in range(n))
    return Panel("parks", LABELS, samples, np.array([[0.1, 0.3, 0.6], [0.6, 0.3, 0.1]]))


def loss_of(model: Any, wanted: Params, adversary: Adversary | None = None, panels: int = 1) -> tuple[float, dict[str, float]]:
    model.zero_grad()
    total, figures = 0.0, dict[str, float]()
    for loss, shares in Simulation(model, ENDING, [panel()] * panels, [], CPU, wanted, adversary).parts(range(panels)):
        loss.backward()
        total += float(loss.detach())
        for name, share in shares.items():
            figures[name] = figures.get(name, 0.0) + float(share)
    return total, figures


def test_the_loss_is_the_weighted_sum_of_its_terms(tiny: Callable[..., Any]) -> None:
    model = tiny()
    adversary = Adversary(64, 2)
    with torch.no_grad():
        states = answer_states(model, [sample.tokens for sample in panel().samples], TREE, CPU)
        log_q, log_mass = option_log_probabilities(model, states, TREE, ENDING)
        weight = torch.tensor([sample.weight for sample in panel().samples])
        terms = {
            "performance": float(performance(log_q, torch.tensor([[0.2, 0.3, 0.5]] * 4), weight, "kl")),
            "reluctance": float(reluctance(log_mass, weight)),
            "fairness": float(parity_gap(log_q, weight, torch.tensor([0, 1, 0, 1]), torch.tensor(panel().real, dtype=torch.float32))),
            "adversarial": float(adversary(states[:, 0], torch.tensor([-1, 0, 1, -1]))[0]),
        }
    loss, figures = loss_of(model, settings(alpha=2.0, beta=3.0, gamma=0.5), adversary)
    assert {name: figures[name] for name in terms} == pytest.approx(terms, rel=1e-3)
    assert loss == pytest.approx(2 * (terms["performance"] + terms["reluctance"]) + 3 * terms["fairness"] + 0.5 * terms["adversarial"], rel=1e-3)
    assert loss_of(model, settings(alpha=0.0, beta=1.0))[0] == pytest.approx(terms["fairness"], rel=1e-3)


def test_a_batch_is_the_mean_of_its_panels(tiny: Callable[..., Any]) -> None:
    model = tiny()
    one, three = loss_of(model, settings(beta=1.0))[0], loss_of(model, settings(beta=1.0), panels=3)[0]
    assert three == pytest.approx(one, rel=1e-4)


def test_a_term_without_weight_moves_nothing(tiny: Callable[..., Any]) -> None:
    model = tiny()
    gradients = []
    for wanted in (settings(), settings(beta=0.0, parity="ideology")):
        loss_of(model, wanted)
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_the_adversary_pulls_the_model_the_other_way(tiny: Callable[..., Any]) -> None:
    model, adversary = tiny(), Adversary(64, 2)
    with_it = loss_of(model, settings(gamma=1.0), adversary) and [p.grad.clone() for p in model.parameters() if p.grad is not None]
    without = loss_of(model, settings()) and [p.grad.clone() for p in model.parameters() if p.grad is not None]
    states = answer_states(model, [sample.tokens for sample in panel().samples], TREE, CPU)[:, 0]
    model.zero_grad()
    known = torch.tensor([-1, 0, 1, -1])
    torch.nn.functional.cross_entropy(adversary.head(states[known >= 0]), known[known >= 0]).backward()
    alone = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    for one, other, reading in zip(with_it, without, alone, strict=True):
        torch.testing.assert_close(one, other - reading, atol=1e-3 * float(reading.abs().max()), rtol=1e-2)


def test_held_out_panels_are_measured_like_training_ones(tiny: Callable[..., Any]) -> None:
    model = tiny()
    figures = loss_of(model, settings())[1]
    with torch.no_grad():
        assert Simulation(model, ENDING, [], [panel(), panel()], CPU, settings()).held_out() == pytest.approx(figures, rel=1e-4)
        assert Simulation(model, ENDING, [panel()], [], CPU, settings()).held_out() == {}
    assert Simulation(model, ENDING, [panel()], [], CPU, settings()).tokens([0, 0]) == 2 * (9 + 8 + 7 + 6)


def test_training_reads_the_probabilities_that_choose_measures(base_model: Path, tokenizer: Tokenizer) -> None:
    lora = Lora(rank=4, alpha=8.0, dropout=0.0, attention=("q", "v"), mlp=False)
    _, model = weights.load_model(base_model, lora, CPU, 1)
    asked = [ask(TASK, one["persona"], one["question"], one["options"]) for one in ROWS[:3]]
    tree = OptionTree([tokenizer.tokens(option, special=False) for option in OPTIONS], tokenizer.ending)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        states = answer_states(model, [tokenizer.tokens(tokenizer.render(prompt)) for prompt in asked], tree, CPU)
        trained = option_log_probabilities(model, states, tree, tokenizer.ending)[0].exp()
    with LlamaCpp(base_model / "model.gguf", 4, 256) as engine:
        measured = np.array([choice.probabilities for choice in choices(engine, asked, OPTIONS)])
    np.testing.assert_allclose(trained.numpy(), measured, atol=0.05)


def test_samples_learn_the_answers_of_their_group_or_their_own(tokenizer: Tokenizer) -> None:
    one = prepare(ROWS, ROWS, TASK, tokenizer, settings(), {"conservative": 0, "liberal": 1}, 1)
    assert {panel.item: len(panel.samples) for panel in one} == {"parks": 4, "roads": 4}
    assert len(one) == 12
    for found in one:
        np.testing.assert_array_equal(found.real, [[0, 0, 1], [1, 0, 0]])
        for sample in found.samples:
            assert sample.target == ((0, 0, 1), (1, 0, 0))[sample.group]
    mixed = prepare(ROWS, ROWS, TASK, tokenizer, settings(shrinkage=12.0), {}, 1)[0].samples[0]
    assert max(mixed.target) == pytest.approx((12 + 12 / 2) / 24)
    assert mixed.hidden == -1
    assert set(prepare(ROWS, ROWS, TASK, tokenizer, settings(target="answer", shrinkage=12.0), {}, 1)[0].samples[0].target) == {0.0, 1.0}


def test_respondents_are_kept_out_as_a_whole() -> None:
    seen, unseen = split(TABLE, settings(), 0.3)
    assert seen
    assert unseen
    assert not {one["respondent"] for one in seen} & {one["respondent"] for one in unseen}
    assert split(TABLE, settings(validation=0), 0.3) == (ROWS, [])
    with pytest.raises(InputError, match=r"train\.parquet without the tuning\.held_out share of 0\.999999: holds no row"):
        split(TABLE, settings(), 0.999999)


def test_validation_comes_from_all_over() -> None:
    some: Any = list(range(9))
    assert spread(some, 3) == [0, 3, 6]
    assert spread(some, 20) == some
    assert spread(some, 0) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"groups": ["region"]}, r"simulate\.groups: train\.parquet has no 'region', only party, ideology"),
        ({"parity": "region"}, r"simulate\.parity: .* no 'region'"),
        ({"hidden": "region"}, r"simulate\.hidden: .* no 'region'"),
        ({"hidden": "party", "gamma": 1.0}, r"simulate\.hidden: personas state 'party', so nothing is hidden\. Add it to interview\.unstated"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        check(settings(**changes), TABLE)


def test_what_has_no_effect_is_no_objection() -> None:
    check(settings(hidden="party"), TABLE)
    with pytest.raises(InputError, match="alpha or beta must be above 0"):
        parse(Params, VALUES | {"alpha": 0.0}, "params.yaml: simulate")


def test_a_fairness_term_that_compares_nobody_is_refused() -> None:
    with pytest.raises(InputError, match=r"simulate\.beta: 2 of 3 panels hold one group of simulate\.parity only.*set interview\.orders to both"):
        require_comparisons([panel(1), panel(), panel(1)], settings(beta=1.0))
    require_comparisons([panel(1), panel()], settings(beta=1.0))
    require_comparisons([panel(1)], settings())


def workplace(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> None:
    (folder / "prompts").mkdir()
    shutil.copy(ROOT / "prompts/simulate.yaml", folder / "prompts/simulate.yaml")
    tuning = {"lora": {"rank": 4, "alpha": 8, "dropout": 0.0, "attention": ["q", "v"], "mlp": True}, "precision": "bf16", "held_out": 0.3, "max_length": 64, "clip": 1.0, "seed": 1}
    runtime = {"sequences": 4, "micro_batch": 4, "device": "cpu"}
    (folder / "params.yaml").write_text(json.dumps({"simulate": VALUES | changes, "tuning": tuning, "runtime": runtime}))
    interviews.write(folder / "train.parquet", rows, ["party", "ideology"], ["ideology"])


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_the_stage_leaves_a_checkpoint_and_a_log(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gamma: float) -> None:
    monkeypatch.chdir(tmp_path)
    workplace(tmp_path, ROWS, beta=1.0, gamma=gamma, steps=12, checkpoint_every=6)
    simulate.main(tiny_base, tmp_path / "train.parquet", tmp_path / "models/opinion")
    assert sorted(path.name for path in (tmp_path / "models/opinion").iterdir()) == ["log.jsonl", "step-000006", "step-000012"]
    lines = [json.loads(line) for line in (tmp_path / "models/opinion/log.jsonl").read_text().splitlines()]
    assert lines[-1]["performance"] < lines[0]["performance"] / 2
    assert lines[-1]["reluctance"] < lines[0]["reluctance"] / 2
    assert lines[-1]["held_out_performance"] < lines[0]["performance"] / 2
    assert ("read" in lines[0]) == bool(gamma)


def test_a_prompt_that_the_model_cannot_take_is_refused(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workplace(tmp_path, [one | {"persona": "Party: left\n" * 90} for one in ROWS])
    with pytest.raises(InputError, match=r"the model reads at most 256 tokens, and samples have up to \d+\. State fewer attributes: interview\.unstated\."):
        simulate.main(tiny_base, tmp_path / "train.parquet", tmp_path / "models/opinion")
    assert not (tmp_path / "models/opinion").exists()
