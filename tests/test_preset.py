import difflib
from pathlib import Path
from typing import Any

import pytest

from stages import preset
from stages.core import params
from stages.core.errors import InputError

ROOT = Path(__file__).parent.parent
SHOWN = """\
# What is built.
leanings:  # the first is the base of comparison
- left
- right

# Training.
dpo:
  beta: 0.1  # higher: stays closer
  steps: 24
  checkpoint_every: 12
  batch_size: 4
  learning_rate: 0.0005
  weight_decay: 0.05
  warmup: 0.1

# The persona.
usage:
  price:  # none: no cost
interview:
  topics: []  # none: all
  held_out_items: codebook  # or a list
  unstated:  # what personas do not tell
  - ideology
  - work
  # the last comment
speak:
  silent:
  - control
"""


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's parameters and presets in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", *(str(path.relative_to(ROOT)) for path in (ROOT / "presets").glob("*.yaml"))):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text((ROOT / name).read_text())
    return tmp_path


def values() -> dict[str, Any]:
    return dict(params.read_yaml(Path("params.yaml")))


def changed(before: str, after: str) -> list[str]:
    return [line for line in difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0) if line[0] in "+-" and line[:3] not in ("+++", "---")]


@pytest.mark.parametrize(
    ("name", "before", "after", "lines"),
    [
        ("dpo.beta", 0.1, 0.3, ["-  beta: 0.1  # higher: stays closer", "+  beta: 0.3  # higher: stays closer"]),
        ("dpo.learning_rate", 0.0005, 1e-05, ["-  learning_rate: 0.0005", "+  learning_rate: 1e-05"]),
        ("leanings", ["left", "right"], ["left"], ["-- right"]),
        ("leanings", ["left", "right"], [], ["-leanings:  # the first is the base of comparison", "-- left", "-- right", "+leanings: []  # the first is the base of comparison"]),
        ("usage.price", None, 2, ["-  price:  # none: no cost", "+  price: 2  # none: no cost"]),
        ("interview.topics", [], ["a", "b: c"], ["-  topics: []  # none: all", "+  topics:  # none: all", "+  - a", "+  - 'b: c'"]),
        ("interview.held_out_items", "codebook", ["x"], ["-  held_out_items: codebook  # or a list", "+  held_out_items:  # or a list", "+  - x"]),
        ("interview.held_out_items", "codebook", None, ["-  held_out_items: codebook  # or a list", "+  held_out_items:  # or a list"]),
        ("interview.unstated", ["ideology", "work"], ["ideology", "work", "place"], ["+  - place"]),
        (
            "interview.unstated",
            ["ideology", "work"],
            "all",
            ["-  unstated:  # what personas do not tell", "-  - ideology", "-  - work", "+  unstated: all  # what personas do not tell"],
        ),
        ("speak.silent", ["control"], ["no", "1"], ["-  - control", "+  - no", "+  - '1'"]),
    ],
)
def test_only_the_lines_of_a_value_change(name: str, before: object, after: object, lines: list[str]) -> None:
    text = preset.rewritten(SHOWN, [preset.Change(name, before, after)])
    assert changed(SHOWN, text) == lines


def test_several_values_change_at_once() -> None:
    text = preset.rewritten(
        SHOWN, [preset.Change("dpo.steps", 24, 7), preset.Change("leanings", ["left", "right"], ["a", "b", "c"]), preset.Change("speak.silent", ["control"], [])]
    )
    assert [line for line in changed(SHOWN, text) if line[0] == "+"] == ["+- a", "+- b", "+- c", "+  steps: 7", "+  silent: []"]


def test_paper_and_back_leaves_params_as_they_were(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("params.yaml").read_text()
    preset.main("paper")
    there = Path("params.yaml").read_text()
    wanted, now = dict(preset.leaves(preset.load("paper"))), dict(preset.leaves(values()))
    assert wanted.items() <= now.items()
    said = capsys.readouterr().out
    assert "judge.max_tokens: " in said
    assert len(said.splitlines()) == sum(now[path] != value for path, value in preset.leaves(params.read_yaml(ROOT / "params.yaml")))
    assert [line for line in there.splitlines() if line.lstrip().startswith("#")] == [line for line in before.splitlines() if line.lstrip().startswith("#")]
    preset.main("laptop")
    assert Path("params.yaml").read_text() == before


def test_the_committed_parameters_are_those_of_laptop(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset.main("laptop")
    assert capsys.readouterr().out == "params.yaml has the values of laptop already.\n", "a default was changed: change it in presets/laptop.yaml too"


def test_laptop_undoes_all_that_paper_sets(copy: Path) -> None:
    assert [path for path, _ in preset.leaves(preset.load("laptop"))] == [path for path, _ in preset.leaves(preset.load("paper"))]


def test_every_section_has_a_schema_and_suits_it(in_root: None) -> None:
    for section, found in values().items():
        if section != "leanings":
            assert preset.schema_of(section).model_validate(found)


def test_all_mistakes_are_named_and_nothing_is_written(copy: Path) -> None:
    before = Path("params.yaml").read_text()
    Path("presets/mine.yaml").write_text(
        "dpo:\n  steps: 0\n  beta: loose\n  pace: 3\njuge:\n  repeats: 2\nsft: 3\nleanings: left\ncompass:\n  open:\n    judge:\n      file: x\n  arms:\n  - - forced\n"
    )
    with pytest.raises(InputError) as refused:
        preset.main("mine")
    said = str(refused.value)
    assert said.startswith("presets/mine.yaml: nothing is written, please correct:\n")
    for mistake in (
        "dpo.pace: there is no such parameter",
        "juge.repeats: there is no such",
        "sft: a preset gives",
        "compass.open.judge.file: there is no such",
        "compass.arms: a preset gives",
    ):
        assert f"  {mistake}" in said
    for name in ("dpo.steps: Input should be greater", "dpo.beta: Input should be a valid number", "leanings: Input should be a valid tuple"):
        assert f"  {name}" in said
    assert Path("params.yaml").read_text() == before


def test_an_unknown_preset_is_refused_with_those_that_are_there(copy: Path) -> None:
    with pytest.raises(InputError, match=r"huge\.yaml: there is no such preset, only laptop, paper\."):
        preset.main("huge")


def test_an_empty_preset_is_refused(copy: Path) -> None:
    Path("presets/none.yaml").write_text("# nothing\n")
    with pytest.raises(InputError, match="holds no parameters"):
        preset.main("none")
