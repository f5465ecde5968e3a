from pathlib import Path

from stages.llm import prompts
from stages.surveys.asking import ask

TASK = prompts.load(Path(__file__).parents[2] / "prompts/simulate.yaml")


def test_a_question_comes_with_its_options_before_the_persona() -> None:
    system, user = ask(TASK, "Age: 30 to 44\nSex: female", "How are the parks?", ["bad", "good"])
    assert system.role == "system"
    assert user.content == "How are the parks?\n- bad\n- good\n\nAge: 30 to 44\nSex: female"


def test_a_dollar_sign_in_a_question_stays_one() -> None:
    assert "$5" in ask(TASK, "-", "Would you pay $5?", ["yes", "no"])[1].content
