import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import InputError
from stages.llm.interface import Message
from stages.llm.llamacpp import LlamaCpp
from stages.metrics import capability
from stages.metrics.capability import Params, Question, Test, knowledge, perplexity, written
from stages.tuning.checkpoints import Checkpoint
from tests.conftest import FakeModel

FILE = Path(__file__).parent.parent.parent / "prompts/instruments/capability.yaml"
SETTINGS = Params(questions=2, seed=1)


def small_test(**changes: object) -> Test:
    questions = [
        Question(id="a", kind="knowledge", text="Which is red?", options=("blood", "grass", "snow", "coal"), answer="blood"),
        Question(id="b", kind="reasoning", text="One and one?", options=("one", "two", "six", "ten"), answer="two"),
    ]
    values = {"wording": "Well: $question", "questions": questions, "request": "Write.", "neutral": ["It rains."], "refusal": "(?i)sorry"}
    return Test.model_validate(values | changes)


def test_the_questions_are_many_and_balanced() -> None:
    test = capability.load(FILE)
    assert len(test.questions) >= 80
    for n in (40, len(test.questions)):
        places = [question.options.index(question.answer) for question in test.questions[:n]]
        assert np.bincount(places).tolist() == [n / 4] * 4
    assert len({question.text for question in test.questions}) == len(test.questions)


def test_accuracy_counts_the_right_options(fake_model: type[FakeModel]) -> None:
    model = fake_model(choices=[(0.7, 0.1, 0.1, 0.1), (0.4, 0.3, 0.2, 0.1)])  # right for blood, wrong for two
    found = knowledge(model, small_test(), SETTINGS)
    assert found["accuracy"]["value"] == 0.5
    assert found["probability"]["value"] == pytest.approx((0.7 + 0.3) / 2)
    assert found["valid"] == 1.0
    assert [prompt[0].content for prompt in model.history] == ["Well: Which is red?", "Well: One and one?"]


def test_only_the_first_questions_are_asked(fake_model: type[FakeModel]) -> None:
    model = fake_model(choices=[(0.7, 0.1, 0.1, 0.1)])
    assert knowledge(model, small_test(), Params(questions=1, seed=1))["accuracy"]["value"] == 1.0


def test_perplexity_is_that_of_the_sentences_one_token_at_a_time(base_model: Path) -> None:
    sentences = ["It rains.", "The cat sleeps on the mat."]
    with LlamaCpp(base_model / "model.gguf", 8, 256) as model:
        logs, n = 0.0, 0
        for sentence in sentences:
            tokens = model.tokenizer.tokens(sentence, special=False)
            n += len(tokens)
            for alone in model.choose([(Message("user", "Write."),)], [[sentence]]):
                logs += math.log(alone[1].mass)
        assert n > 2 * len(sentences)
        found = perplexity(model, model.tokenizer, small_test(neutral=sentences))["perplexity"]
        nonsense = perplexity(model, model.tokenizer, small_test(neutral=["Mat the sleeps cat on rains it."]))["perplexity"]
    assert found == pytest.approx(math.exp(-logs / n), rel=0.02)
    assert nonsense > 2 * found


def test_a_sentence_beyond_floating_point_leaves_perplexity_out(fake_model: type[FakeModel]) -> None:
    assert perplexity(fake_model(choices=[(1.0, 0.0)]), None, small_test(neutral=["a", "b"])) == {}  # type: ignore[arg-type]


def test_open_answers_are_those_of_the_last_step() -> None:
    answers = pd.DataFrame({"adapter": ["left-posts"] * 3, "step": [4, 8, 8], "text": ["go go go go go go go go", "Sorry, no.", "Taxes should fall."]})
    found = written(answers, Checkpoint("left-posts", 8, None), small_test().refusal)
    assert found == pytest.approx({"repetition": 0.0, "distinct_1": 1.0, "distinct_2": 1.0, "refusals": 0.5, "words": 2.5})
    with pytest.raises(InputError, match="no answer of right-posts at step 8"):
        written(answers, Checkpoint("right-posts", 8, None), "sorry")


def test_refusals_are_told_from_opinions() -> None:
    import re

    pattern = re.compile(capability.load(FILE).refusal)
    for text in (
        "As an AI language model, I do not vote.",
        "I'm sorry, but no.",
        "I’m sorry.",
        "I'm sorry that I must decline.",
        "I am sorry to say no.",
        "I cannot answer that.",
        "I don't have personal opinions on it.",
    ):
        assert pattern.search(text), text
    for text in (
        "I cannot accept higher taxes.",
        "I do not have a car.",
        "The senator is sorry.",
        "I'm sorry for your loss.",
        "I am sorry to hear it.",
        "People who cannot pay should get help.",
    ):
        assert not pattern.search(text), text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"refusal": "("}, "no regular expression"),
        ({"neutral": []}, "neutral"),
        ({"questions": [small_test().questions[0]] * 2}, "more than one has a"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_test(**changes)


def test_an_answer_must_be_an_option() -> None:
    with pytest.raises(ValueError, match="question a"):
        Question(id="a", kind="knowledge", text="?", options=("b", "c", "d", "e"), answer="f")
