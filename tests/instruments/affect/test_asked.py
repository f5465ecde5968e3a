from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.instruments.affect.asked import Asked
from stages.instruments.affect.classifier import EMOTIONS, MORALS
from stages.llm import prompts
from stages.llm.prompts import Task

TASK = Task(system="", user="$post: $meaning?", options=("Yes", "No"), wording={"joy": {"meaning": "joy"}, "fear": {"meaning": "worry"}})


def test_every_label_of_every_text_is_asked_for(fake_model: Any) -> None:
    model = fake_model(choices=[(0.9, 0.1), (0.2, 0.8), (0.5, 0.5), (0.3, 0.7)])
    found = Asked(("joy", "fear"), model, TASK, 100).scores(["Sun!", "Rain."])
    assert found == pytest.approx(np.array([[0.9, 0.2], [0.5, 0.3]]))
    assert [prompt[0].content for prompt in model.history] == ["Sun!: joy?", "Sun!: worry?", "Rain.: joy?", "Rain.: worry?"]


def test_what_the_model_answers_to_nothing_is_a_half(fake_model: Any) -> None:
    task = TASK.model_copy(update={"neutral": ("N/A",)})
    # Odds 9 over odds 3 are 3, a probability of 3/4; odds 3 over themselves are 1.
    model = fake_model(choices=[(0.9, 0.1), (0.75, 0.25), (0.75, 0.25), (0.75, 0.25)])
    assert Asked(("joy", "fear"), model, task, 100).scores(["Sun!"]) == pytest.approx(np.array([[0.75, 0.5]]))


def test_other_than_two_options_are_refused(fake_model: Any) -> None:
    with pytest.raises(InputError, match="needs two options"):
        Asked(("joy",), fake_model(), TASK.model_copy(update={"options": ("a", "b", "c")}), 100).scores(["Sun!"])


def test_the_prompt_file_words_all_labels(in_root: None) -> None:
    task = prompts.load(Path("prompts/label.yaml"))
    assert set(task.wording) == {*EMOTIONS, *MORALS}
    assert task.render("anger", {"post": "Sun!"})
