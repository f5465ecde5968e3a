from pathlib import Path
from typing import Any

import pytest

from stages.core.params import load, parse, read_yaml
from stages.corpora import issues
from stages.corpora.issues import Issue
from stages.data.speak import PROMPT, Params, Request, Speech, prompt, read, requests, speak

POST = "My neighbors wear their masks and so do I."
ISSUES = {
    "covid": Issue.model_validate(
        {"name": "the pandemic", "phrases": ["covid"], "topics": {"masking": {"name": "masks", "phrases": ["mask*"]}, "schools": {"name": "schools", "phrases": ["school*"]}}}
    )
}
TASK = Speech(
    system="$who",
    user="$request",
    wordings=("Write about $topic ($issue).", "On $issue: $topic?"),
    wording={"none": {"who": ""}, "liberal": {"who": "You are a liberal."}, "conservative": {"who": "You are a conservative."}},
)


def settings(**changes: object) -> Params:
    values = {"repeats": 2, "max_tokens": 8, "temperature": 1.0, "top_p": 1.0, "base": ["none"], "adapters": [], "silent": [], "seed": 1}
    return parse(Params, values | changes, "params.yaml: speak")


@pytest.fixture
def task(in_root: None) -> Speech:
    return parse(Speech, read_yaml(PROMPT), str(PROMPT))


def test_every_topic_is_asked_about_in_every_wording_and_steering() -> None:
    asked = requests(ISSUES, ("none", "liberal"), TASK)
    assert len(asked) == len(set(asked)) == 2 * 2 * 2
    assert {(request.issue, request.topic) for request in asked} == {("covid", "masking"), ("covid", "schools")}


def test_only_steering_adds_a_system_text() -> None:
    plain, steered = (prompt(Request(steering, "covid", "masking", 1), ISSUES, TASK) for steering in ("none", "conservative"))
    assert [(turn.role, turn.content) for turn in plain] == [("user", "On the pandemic: masks?")]
    assert [(turn.role, turn.content) for turn in steered] == [("system", "You are a conservative."), ("user", "On the pandemic: masks?")]


def test_rows_tell_what_was_asked_and_what_became_of_it(fake_model: Any) -> None:
    asked = requests(ISSUES, ("liberal",), TASK)[:2]
    model = fake_model([POST, "", "masks masks masks masks masks masks", "As an AI language model I have no views on masks."])
    rows = speak(model, "left-posts", asked, ISSUES, TASK, settings())
    assert [(row["wording"], row["repeat"], row["status"]) for row in rows] == [(0, 0, "kept"), (0, 1, "empty"), (1, 0, "unreadable"), (1, 1, "refusal")]
    assert {(row["model"], row["steering"], row["issue"], row["topic"]) for row in rows} == {("left-posts", "liberal", "covid", "masking")}
    assert len({row["id"] for row in rows}) == 4
    assert rows[0]["text"] == POST


@pytest.mark.parametrize(
    "written",
    [POST, f'"{POST}"', f"“{POST}”", f"Here is a tweet about masks:\n\n{POST}", f'Sure! Here\'s my post: "{POST}"\n', f"Tweet: {POST}"],
)
def test_lead_ins_and_quotation_marks_are_taken_off(written: str, task: Speech) -> None:
    assert read(written, task) == (POST, "kept")


@pytest.mark.parametrize("written", ['"', "  \n", '""'])
def test_nothing_but_marks_is_no_post(written: str, task: Speech) -> None:
    assert read(written, task)[1] in ("empty", "unreadable")


def test_there_are_ten_wordings_and_both_sides_are_steered_alike(task: Speech) -> None:
    assert len(set(task.wordings)) == 10
    assert task.wording["liberal"]["who"].replace("liberal", "conservative") == task.wording["conservative"]["who"]
    assert task.wording["none"]["who"] == ""


def test_the_projects_topics_can_all_be_asked_about(task: Speech, in_root: None) -> None:
    found = issues.load(Path("prompts/topics"), ("covid", "abortion"))
    chosen = load("speak", Params)
    asked = requests(found, chosen.base, task)
    assert len(asked) == 10 * 10 * 3
    assert {turn.content for request in asked for turn in prompt(request, found, task) if "$" in turn.content} == set()


@pytest.mark.parametrize("wording", ["Write about $topic.", "Write about $topic, $issue and $side.", "Write about $topic and $issue for $5."])
def test_a_wording_with_other_placeholders_is_refused(wording: str) -> None:
    with pytest.raises(ValueError, match=r"must hold \$topic and \$issue and no other"):
        Speech(system="", user="$request", wordings=(wording,))
