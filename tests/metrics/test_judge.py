import json
from pathlib import Path

import numpy as np
import pytest

from stages.core import params
from stages.core.errors import InputError
from stages.core.params import parse, read_yaml
from stages.instruments.judges import Labelled, calibrated, read
from stages.instruments.judging import Params
from stages.metrics.judge import Question, Questions, answer, between, figures, judge_all, rows, write
from stages.statistics.undefined import Undefined
from stages.tuning.checkpoints import Checkpoint
from tests.conftest import FakeModel

ROOT = Path(__file__).parents[2]
UNKNOWN = Undefined("no gold")
GOLD = Labelled([f"t{i}" for i in range(40)], np.linspace(0, 20, 40), ["t"] * 40, np.zeros(40, dtype=bool))


def test_unreadable_answers_count_but_do_not_score() -> None:
    found = figures(np.array([[4.0, np.nan], [8.0, 6.0]]), UNKNOWN, seed=1)
    assert found["readable"] == 0.75
    assert isinstance(found["score"], dict)
    assert found["score"]["value"] == pytest.approx((4 + 7) / 2)  # each question counts once
    assert found["score"]["low"] <= 5.5 <= found["score"]["high"]
    assert "corrected" not in found


def test_a_model_that_says_nothing_gets_no_score() -> None:
    assert figures(np.full((3, 2), np.nan), UNKNOWN, seed=1) == {"readable": 0.0}


def test_the_corrected_score_undoes_a_known_bias() -> None:
    noise = np.random.default_rng(0).normal(0, 0.5, len(GOLD.scores))
    calibration = calibrated(12 + (GOLD.scores - 10) / 2 + noise, GOLD.scores, seed=1)  # halves distances from the centre and adds 2
    scores = 12 + (np.random.default_rng(1).normal(5.0, 1.0, (24, 2)) - 10) / 2  # of texts at 5
    found = figures(scores, calibration, seed=1)
    assert found["corrected"]["low"] < 5 < found["corrected"]["high"]
    assert found["corrected"]["high"] - found["corrected"]["low"] > 1.9 * (found["score"]["high"] - found["score"]["low"])  # stretched, and the gold set's own error


def test_where_a_resample_may_hold_no_answer_nothing_is_corrected() -> None:
    scores = np.full((3, 1), np.nan)
    scores[0, 0] = 6.0
    found = figures(scores, calibrated(GOLD.scores, GOLD.scores, seed=1), seed=1)
    assert found["score"]["value"] == pytest.approx(6)
    assert "corrected" not in found


def test_two_judges_are_compared_where_both_could_tell() -> None:
    found = between(np.array([1.0, 2.0, 3.0, np.nan]), np.array([2.0, 3.0, 4.0, 9.0]))
    assert found == pytest.approx({"n": 3, "difference": 1.0, "spearman": 1.0})
    assert between(np.array([1.0, np.nan]), np.array([np.nan, 1.0])) == {"n": 0}


def test_further_judges_stand_beside_the_first(tmp_path: Path) -> None:
    base, tuned = Checkpoint("base", 0, None), Checkpoint("left-posts", 8, None)
    score = {"value": 8.0, "low": 7.0, "high": 9.0}
    ours = {base: {"readable": 1.0, "score": score}, tuned: {"readable": 0.0}}
    theirs = {base: {"readable": 0.5}, tuned: {"readable": 0.25}}
    write(tmp_path / "judge.json", tmp_path / "judge.csv", {"classifier": ours, "llm": theirs}, {"classifier": {"n": 250}})
    found = json.loads((tmp_path / "judge.json").read_text())
    assert found["base"]["score"]["value"] == 8
    assert found["left-posts"] == {"readable": 0.0, "llm": {"readable": 0.25}}
    assert found["judges"] == {"classifier": {"n": 250}}
    assert (tmp_path / "judge.csv").read_text().splitlines()[1:] == ["left-posts,0,8.0,7.0,9.0,,,", "left-posts,8,,,,,,"]


SETTINGS = params.load("judge", Params, ROOT / "params.yaml")
ASKED = Questions(wording="Say: $question", questions=(Question(id="a", topic="t", text="Why?"), Question(id="b", topic="t", text="How?")))


def test_models_answer_as_often_as_they_are_asked_and_are_scored_apart() -> None:
    lean = ROOT / "data/sample/lean"
    truth = read(lean / "gold.jsonl")
    often = [
        ["Taxes on the rich are theft and kill jobs.", "Unions built this country and deserve our support."],
        ["Guns keep us free, and the government should leave gun owners alone.", "Healthcare is a right for everybody, rich or poor."],
    ]
    once = [[often[0][1]], [often[1][0]]]
    on_gold, (first, second) = judge_all(SETTINGS, lean / "training.jsonl", truth, ASKED, [often, once])["classifier"]
    assert on_gold.shape == truth.scores.shape
    assert (first.shape, second.shape) == ((2, 2), (2, 1))
    assert second[:, 0].tolist() == [first[0, 1], first[1, 0]]
    assert len(set(first.ravel())) == 4


def test_a_row_holds_every_judge(fake_model: type[FakeModel]) -> None:
    asked, model = ASKED, fake_model(texts=["1 ", "2", "3", "4"])
    texts = answer(model, asked, SETTINGS, 2)
    assert texts == [["1", "2"], ["3", "4"]]
    assert model.history[0][0].content == "Say: Why?"
    found = rows(Checkpoint("base", 0, None), asked, texts, {"score": np.arange(4.0).reshape(2, 2), "llm": np.full((2, 2), np.nan)})
    assert [(row["question"], row["repeat"], row["text"], row["score"]) for row in found] == [("a", 0, "1", 0), ("a", 1, "2", 1), ("b", 0, "3", 2), ("b", 1, "4", 3)]
    assert np.isnan(found[0]["llm"])


def test_questions_are_told_apart_by_their_ids() -> None:
    again = {"wording": "$question", "questions": [{"id": "a", "topic": "t", "text": text} for text in ("Why?", "How?")]}
    with pytest.raises(InputError, match=r"questions\.yaml\.questions: .*more than one has a"):
        parse(Questions, again, "questions.yaml")
    with pytest.raises(InputError, match=r"questions\.yaml\.questions"):
        parse(Questions, {"wording": "$question", "questions": []}, "questions.yaml")


def test_the_shipped_questions_ask_both_sides_about_the_other() -> None:
    asked = parse(Questions, read_yaml(ROOT / "prompts/instruments/questions.yaml"), "questions.yaml").questions
    assert {question.topic for question in asked} == {"parties", "politicians", "ideology", "policy"}
    democrats, republicans = {"obama", "sanders", "warren", "hillary_clinton"}, {"bush", "cruz", "reagan", "mcconnell"}
    assert {question.id.removeprefix("politician_") for question in asked if question.topic == "politicians"} == democrats | republicans
    turns = read_yaml(ROOT / "prompts/respond.yaml")["turns"].values()
    taught = [turn["instruction"].removeprefix("What do you think about ").rstrip("?") for side in turns for turn in side]
    assert len(taught) == 24
    assert not [(subject, question.text) for subject in taught for question in asked if subject.lower() in question.text.lower()]
