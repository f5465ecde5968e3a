"""The graph tells the truth: what dvc.yaml lists is what the stages read, import and write."""

import ast
import importlib
import inspect
import re
import shlex
import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

import stages
from stages.core import command, params
from stages.data import collect, filter, instruct
from stages.instruments import questionnaire
from stages.llm import prompts
from stages.tuning.settings import Schedule

ROOT = Path(__file__).parent.parent
GRAPH = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
FOLDERS = {"stages/core", "stages/llm"}
"Dependencies as a whole: nearly every stage needs nearly all of them, and DVC reads and writes dvc.lock, which names each dependency, after every stage."
PACKAGE_FILES_WITH_EFFECTS = {"stages/tuning/__init__.py"}


def definition(name: str) -> dict[str, object]:
    return GRAPH[name].get("do", GRAPH[name])


def paths(entries: list[object]) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def imported(file: Path) -> set[Path]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "stages":
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "stages"]
        for name in names:
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                path = ROOT.joinpath(*parts[:end])
                found |= {candidate for candidate in (path / "__init__.py", path.with_suffix(".py")) if candidate.exists()}
    return found


def closure(file: Path) -> set[str]:
    seen, waiting = set(), [file]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += imported(current)
    return {str(path.relative_to(ROOT)) for path in seen}


def module_of(name: str) -> Path:
    match = re.match(r"python -m (\S+)", str(definition(name)["cmd"]))
    assert match, f"{name} does not run a module"
    return ROOT / (match[1].replace(".", "/") + ".py")


@pytest.mark.parametrize("name", GRAPH)
def test_every_imported_module_is_a_dependency(name: str) -> None:
    needed = {path for path in closure(module_of(name)) if not path.endswith("__init__.py") or path in PACKAGE_FILES_WITH_EFFECTS}
    listed = {path for path in paths(definition(name)["deps"]) if path.startswith("stages/")}
    folders = {path for path in listed if (ROOT / path).is_dir()}
    assert folders <= FOLDERS
    assert listed == {next((folder for folder in folders if path.startswith(f"{folder}/")), path) for path in needed}


def test_package_files_that_are_no_dependency_hold_a_docstring_only() -> None:
    for file in (ROOT / "stages").rglob("__init__.py"):
        if str(file.relative_to(ROOT)) not in PACKAGE_FILES_WITH_EFFECTS:
            assert len(ast.parse(file.read_text()).body) == 1, file


@pytest.mark.parametrize("name", GRAPH)
def test_every_path_of_a_command_is_declared(name: str) -> None:
    stage = definition(name)
    known = [*paths(stage["deps"]), *paths(stage.get("outs", [])), *paths(stage.get("metrics", [])), *paths(stage.get("plots", []))]
    words = [word for word in shlex.split(str(stage["cmd"])) if "/" in word or word.startswith("${item.path")]
    assert words
    assert not [word for word in words if word not in known]


@pytest.mark.parametrize("name", GRAPH)
def test_every_output_is_written_by_the_command(name: str) -> None:
    stage = definition(name)
    words = shlex.split(str(stage["cmd"]))
    outputs = [*paths(stage.get("outs", [])), *paths(stage.get("metrics", [])), *paths(stage.get("plots", []))]
    assert outputs
    assert not [output for output in outputs if output not in words]


@pytest.mark.parametrize("name", GRAPH)
def test_a_stage_says_what_goes_in_and_out(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = module_of(name)
    module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    with pytest.raises(SystemExit) as ended:
        command.run(module.main, ["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert said.startswith(f"usage: python -m {module.__name__} ")
    for needed in ("\nin ", "\nout "):
        assert needed in said
    assert len(inspect.signature(module.main).parameters) == len(shlex.split(str(definition(name)["cmd"]))) - 3


def test_the_list_of_stages_is_the_graph_in_order() -> None:
    listed = re.findall(r"^(\w+) +(\w+\.\w+)  ", str(stages.__doc__), re.MULTILINE)
    assert [name for name, _ in listed] == list(GRAPH)
    for name, module in listed:
        assert module_of(name) == ROOT / "stages" / (module.replace(".", "/") + ".py")
        assert module.split(".")[1] == name


@pytest.mark.parametrize("name", GRAPH)
def test_a_stage_fills_the_folder_that_it_lies_in(name: str) -> None:
    folder = module_of(name).parent.name
    stage = definition(name)
    for output in [*paths(stage.get("outs", [])), *paths(stage.get("metrics", [])), *paths(stage.get("plots", []))]:
        assert output.startswith(f"{folder}/")


@pytest.mark.parametrize("name", GRAPH)
def test_a_stage_tracks_the_parameters_that_it_reads(name: str) -> None:
    source = "".join((ROOT / path).read_text() for path in [str(module_of(name).relative_to(ROOT))])
    read = {section for section in re.findall(r'params\.load\("(\w+)"', source) if section != "runtime"}
    if "load_study()" in source:
        read |= {"leanings", "sft", "undo"}
    tracked = {str(key).split(".")[0] for key in definition(name).get("params", ())}
    assert tracked == read


@pytest.mark.parametrize(("name", "also"), [("sft", "datasets"), ("undo", "starts")])
def test_one_more_model_to_train_trains_no_other_again(name: str, also: str) -> None:
    tracked = {str(key) for key in definition(name)["params"]} - {"tuning"}
    assert tracked == {f"{name}.{field}" for field in Schedule.model_fields}
    assert f"{name}.{also}" not in tracked


def test_params_are_what_the_stages_expect(in_root: None) -> None:
    params.load("collect", collect.Params)
    params.load("filter", filter.Params)
    params.load("instruct", instruct.Params)
    assert set(params.load_study().leanings) <= set(params.load("collect", collect.Params).sources)


def test_params_keep_their_form_when_they_are_rewritten(tmp_path: Path) -> None:
    yaml = YAML()
    yaml.width = 4096
    copy = tmp_path / "params.yaml"
    yaml.dump(yaml.load((ROOT / "params.yaml").read_text()), copy)
    assert copy.read_text() == (ROOT / "params.yaml").read_text()


def test_trying_a_value_changes_no_other_line_of_params(tmp_path: Path) -> None:
    copy = tmp_path / "params.yaml"
    for value, changed in (("0.1", 0), ("0.3", 1)):
        shutil.copy(ROOT / "params.yaml", copy)
        apply_overrides(str(copy), [f"dpo.beta={value}"])  # what `dvc exp run -S` does
        before, after = ((ROOT / "params.yaml").read_text().splitlines(), copy.read_text().splitlines())
        assert len(before) == len(after), "something stands after a list: see the head of params.yaml"
        assert sum(one != other for one, other in zip(before, after, strict=True)) == changed


@pytest.mark.parametrize("name", ["filter", "instruct", "respond", "contrast"])
def test_every_prompt_words_every_leaning(name: str, in_root: None) -> None:
    task = prompts.load(Path(f"prompts/{name}.yaml"))
    for leaning in params.load_study().leanings:
        assert task.render(leaning, {"post": "a", "instruction": "b", "answer": "c"})


def test_left_and_right_are_worded_alike() -> None:
    respond, contrast = (prompts.load(ROOT / f"prompts/{name}.yaml").wording for name in ("respond", "contrast"))
    assert respond["left"] == contrast["right"]
    assert respond["right"] == contrast["left"]


def test_the_compass_is_balanced() -> None:
    instrument = questionnaire.load(ROOT / "prompts/instruments/compass.yaml")
    for axis in instrument.axes:
        directions = [item.direction for item in instrument.items if item.axis == axis]
        assert directions.count(1) == directions.count(-1) == 16
    items = {item.id: item for item in instrument.items}
    pairs = [(item, items[item.negates]) for item in instrument.items if item.negates]
    assert len(pairs) >= 12
    assert all(a.direction == -b.direction and a.axis == b.axis for a, b in pairs)
