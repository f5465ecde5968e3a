from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss

from stages.statistics.groups import Array, Resampler
from stages.surveys.comparison import MEASURES, Answered, Cell, cells, figures, log_loss, overall, parity, reduction, sign_agreement, subgroups

TRUTH = {"left": [0.6, 0.3, 0.1], "right": [0.2, 0.3, 0.5]}
PARTIES = ["left", "right"] * 300 + ["other"] * 4


def people(seed: int, **simulated: Array) -> Answered:
    random = np.random.default_rng(seed)
    chances = [TRUTH.get(party, [1 / 3, 1 / 3, 1 / 3]) for party in PARTIES]
    real = np.array([random.multinomial(1, chance) for chance in chances], dtype=float)
    names = tuple(str(i) for i in range(len(PARTIES)))
    models = {"truth": np.array(chances), "flat": np.full((len(PARTIES), 3), 1 / 3)} | simulated
    return Answered(f"item {seed}", names, real, models, random.uniform(0.5, 2, len(PARTIES)), {"party": PARTIES, "sex": [None] * len(PARTIES)})


@pytest.fixture(scope="module")
def asked() -> list[Answered]:
    return [people(seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def found(asked: list[Answered]) -> list[Cell]:
    return cells(asked, Resampler(asked[0].respondents, seed=1), least=30.0)


def test_every_item_and_group_has_a_cell_and_small_groups_are_marked(found: list[Cell]) -> None:
    assert [(cell.attribute, cell.group, cell.n, cell.enough) for cell in found[:4]] == [
        ("everybody", "everybody", 604, True),
        ("party", "left", 300, True),
        ("party", "other", 4, False),
        ("party", "right", 300, True),
    ]
    assert len(found) == 12
    assert len(overall(found)) == 3
    assert {cell.group for cell in subgroups(found)} == {"left", "right"}


def test_a_cell_is_the_weighted_answers_of_its_members(asked: list[Answered], found: list[Cell]) -> None:
    one, cell = asked[0], found[1]
    members = [i for i, party in enumerate(PARTIES) if party == "left"]
    np.testing.assert_allclose(cell.real, np.average(one.real[members], axis=0, weights=one.weights[members]))
    np.testing.assert_allclose(cell.simulated["truth"], TRUTH["left"])
    assert cell.real_draws.shape == cell.simulated_draws["flat"].shape == (2000, 3)


def test_a_model_that_answers_with_the_true_probabilities_has_no_divergence(asked: list[Answered], found: list[Cell]) -> None:
    measured: Any = figures(asked, found, "truth", ["party"])
    for name in ("kl", "chi2", "kl_groups", "chi2_groups"):
        assert measured[name]["low"] == 0, name
    assert measured["kl"]["value"] < 0.01
    flat: Any = figures(asked, found, "flat", ["party"])
    for name in ("kl", "chi2", "cramers_v", "js_distance", "wasserstein", "kl_groups"):
        assert flat[name]["low"] > 0, name


def test_tuning_to_the_truth_lowers_the_divergence_by_nearly_all_of_it(found: list[Cell]) -> None:
    for name in ("kl", "chi2"):
        share = reduction(subgroups(found), name, "flat", "truth")
        assert share
        assert share.value > 0.9
        assert 0.8 < share.low <= share.high <= 1


def test_a_model_that_stays_as_it_is_reduces_nothing(found: list[Cell]) -> None:
    share = reduction(found, "kl", "flat", "flat")
    assert share
    assert (share.value, share.low, share.high) == pytest.approx((0, 0, 0))
    assert reduction([], "kl", "flat", "truth") is None


def test_a_group_answered_as_everybody_is_flattened(asked: list[Answered], found: list[Cell]) -> None:
    flat: Any = parity(found, "flat")
    assert flat["parity_difference"] == pytest.approx(0, abs=1e-12)
    assert flat["parity_difference_real"] == pytest.approx((0.4 + 0.0 + 0.4) / 3, abs=0.06)
    assert flat["parity_gap"]["high"] < 0
    truth: Any = parity(found, "truth")
    assert truth["parity_gap"]["low"] < 0.02
    assert truth["parity_difference"] == pytest.approx((0.4 + 0.0 + 0.4) / 3)


def test_the_worst_group_is_the_one_farthest_from_its_answers() -> None:
    wrong = np.array([TRUTH["left"]] * len(PARTIES))
    asked = [people(1, wrong=wrong)]
    measured: Any = figures(asked, cells(asked, Resampler(asked[0].respondents, 1), 30.0), "wrong", ["party"])
    assert measured["worst_group"]["group"] == "party: right"
    assert measured["worst_group"]["gap"] == pytest.approx(measured["worst_group"]["kl"] / 2, abs=0.02)


def test_log_loss_is_scikit_learns(asked: list[Answered]) -> None:
    expected = np.mean([sklearn_log_loss(one.real.argmax(axis=1), one.simulated["truth"], sample_weight=one.weights) for one in asked])
    assert log_loss(asked, "truth") == pytest.approx(expected)


def test_a_model_that_turns_parties_round_has_the_wrong_signs() -> None:
    whole = people(1, turned=np.array([TRUTH["right" if party == "left" else "left"] for party in PARTIES]))
    models = {name: found[:600] for name, found in whole.simulated.items()}
    one = Answered("item", whole.respondents[:600], whole.real[:600], models, whole.weights[:600], {"party": PARTIES[:600], "sex": [None] * 600})
    assert sign_agreement([one], "truth", ["party"]) == {"share": 1.0, "n": 1}
    assert sign_agreement([one], "turned", ["party"]) == {"share": 0.0, "n": 1}
    assert sign_agreement([one], "truth", ["sex"]) is None


def test_every_measure_is_in_the_figures(asked: list[Answered], found: list[Cell]) -> None:
    measured: Any = figures(asked, found, "truth", ["party"])
    assert {name + suffix for name in MEASURES for suffix in ("", "_groups")} <= set(measured)
    assert measured["variance_ratio"]["low"] < 1 < measured["variance_ratio"]["high"]
    assert measured["cosine"]["value"] > 0.99
