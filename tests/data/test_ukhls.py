"""A file in the exact form of Understanding Society, wave 10, goes from survey to metrics. Nobody in it is real."""

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pyreadstat
import pytest

from stages.core import tables
from stages.core.errors import InputError
from stages.data import interview as interviewing
from stages.data import survey as surveying
from stages.metrics import opinion
from stages.models import simulate
from stages.surveys.codebook import load

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "prompts/surveys/ukhls.yaml"
MISSING = [-9, -8, -7, -2, -1]
VALUES = {
    "j_sex": [1, 2],
    "j_hiqual_dv": [1, 2, 3, 4, 5, 9],
    "j_gor_dv": list(range(1, 13)),
    "j_marstat_dv": [0, 1, 2, 3, 4, 5, 6],
    "j_ethn_dv": [*range(1, 18), 97],
    "j_urban_dv": [1, 2],
    "j_scopecl30": [1, 2],
    "j_scopecl200": [1, 2],
}
AGREEMENT = {1: "strongly agree", 2: "tend to agree", 3: "neither agree or disagree", 4: "tend to disagree", 5: "strongly disagree"}
ABSENT = {-9: "missing", -8: "inapplicable", -7: "proxy", -2: "refusal", -1: "don't know"}


def people(n: int = 300) -> pd.DataFrame:
    draw = random.Random(10)

    def coded(values: list[int]) -> int:
        return draw.choice(MISSING) if draw.random() < 0.1 else draw.choice(values)

    survey = load(BOOK, "wave10")
    frame = {"pidp": [68001367 + 68 * i for i in range(n)], "j_hidp": [draw.randint(10**8, 10**9) for _ in range(n)]}
    frame |= {variable: [coded(values) for _ in range(n)] for variable, values in VALUES.items()}
    frame |= {item.variable: [coded([1, 2, 3, 4, 5]) for _ in range(n)] for item in survey.items.values() if "scenv" in item.variable}
    frame |= {item.variable: [coded([1, 2, 3, 4, 5, 6]) for _ in range(n)] for item in survey.items.values() if "envhabit" in item.variable}
    frame["j_age_dv"] = [coded(list(range(16, 100))) for _ in range(n)]
    frame["j_fimngrs_dv"] = [draw.choice([-9.0, 0.0, round(draw.uniform(0, 9000), 2)]) for _ in range(n)]
    frame["j_indscui_xw"] = [0.0 if i % 20 == 0 else round(draw.uniform(0.2, 3), 6) for i in range(n)]
    frame["j_racel_dv_text"] = ['a "note"'] * n
    return pd.DataFrame(frame)


def write(frame: pd.DataFrame, folder: Path, suffix: str) -> Path:
    path = folder / f"j_indresp{suffix}"
    if suffix == ".tab":
        path.write_text("\t".join(frame) + "\n" + "".join("\t".join(map(str, row)) + "\n" for row in frame.itertuples(index=False)))
        return path
    labels = {variable: AGREEMENT | ABSENT for variable in frame if "scenv" in variable} | {"j_sex": {1: "male", 2: "female"} | ABSENT}
    writer = pyreadstat.write_dta if suffix == ".dta" else pyreadstat.write_sav
    writer(frame, str(path), variable_value_labels=labels)
    return path


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text("""\
survey:
  file: j_indresp.tab
  codebook: prompts/surveys/ukhls.yaml
  edition: wave10
  max_unusable: 0.01
interview:
  topics: []
  held_out_items: codebook
  held_out_respondents: 0.25
  wordings: 3
  orders: both
  train_variants: 1
  test_variants: 2
  unstated:
  - income
  balance:
    active: true
    by: ethnicity
    to: 1.0
    neighbours: 3
  seed: 1
""")
    (tmp_path / "prompts").mkdir()
    shutil.copy(ROOT / "prompts/interview.yaml", tmp_path / "prompts/interview.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("suffix", [".tab", ".dta", ".sav"])
def test_wave_10_goes_from_survey_to_interview(workspace: Path, suffix: str) -> None:
    frame = people()
    surveying.main(write(frame, workspace, suffix), BOOK, workspace / "respondents.parquet")
    survey = load(BOOK, "wave10")
    rows = tables.read(workspace / "respondents.parquet", surveying.schema(survey)).to_pylist()
    assert Counter(row["status"] for row in rows) == {"kept": 285, "unweighted": 15}
    for row, was in zip(rows, frame.to_dict("records"), strict=True):
        agreement = dict(zip(range(1, 6), survey.items["lifestyle"].scale.labels, strict=True))
        assert row["lifestyle"] == agreement.get(was["j_scenv_bccc"])
        assert row["age_number"] == (was["j_age_dv"] if was["j_age_dv"] > 0 else None)
        assert row["sex"] == {1: "male", 2: "female"}.get(was["j_sex"])
        assert (row["flights"] is None) == (was["j_envhabit11"] < 0 or was["j_envhabit11"] == 6)
    interviewing.main(workspace / "respondents.parquet", BOOK, workspace / "train.parquet", workspace / "test.parquet")
    train, test = (pq.read_table(workspace / f"{name}.parquet").to_pylist() for name in ("train", "test"))
    assert {row["item"] for row in test if row["split"] == "items"} == {"exaggerated", "britain_alone", "shared_car"}
    assert not {row["respondent"] for row in train} & {row["respondent"] for row in test}
    assert any(row["synthetic"] for row in train)
    assert not any(row["synthetic"] for row in test)
    assert not [row for row in train if "£" in row["persona"]]
    weighted = {row["id"]: row["weight"] for row in rows}
    assert all(row["weight"] == weighted[row["respondent"]] for row in test)


def test_the_same_people_are_found_in_every_format(workspace: Path) -> None:
    found = []
    for suffix in (".tab", ".dta", ".sav"):
        surveying.main(write(people(), workspace, suffix), BOOK, workspace / "respondents.parquet")
        found.append(pq.read_table(workspace / "respondents.parquet").to_pylist())
    assert found[0] == found[1] == found[2]


STUDY = """\
simulate:
  alpha: 1.0
  beta: 1.0
  gamma: 0.5
  target: group
  groups: [sex]
  shrinkage: 10.0
  distance: kl
  parity: sex
  hidden: income
  panel: 4
  validation: 0
  steps: 2
  checkpoint_every: 2
  batch_size: 1
  learning_rate: 0.001
  weight_decay: 0.0
  warmup: 0.1
tuning:
  lora: {rank: 4, alpha: 8, dropout: 0.0, attention: [q, v], mlp: false}
  precision: bf16
  held_out: 0.1
  max_length: 64
  clip: 1.0
  seed: 1
opinion: {respondents: 6, min_group: 2.0, picture: [sex], trees: 5, seed: 1}
measuring: {context: 512}
runtime: {sequences: 8, micro_batch: 4, device: cpu}
"""


def test_wave_10_goes_on_to_metrics(workspace: Path, base_model: Path) -> None:
    changes = {"topics: []": "topics: [climate]", "wordings: 3": "wordings: 1", "active: true": "active: false"}
    changes |= {"  - income\n": "".join(f"  - {name}\n" for name in ("income", "region", "family", "place", "ethnicity", "education"))}
    params = (workspace / "params.yaml").read_text()
    for old, new in changes.items():
        assert old in params
        params = params.replace(old, new)
    (workspace / "params.yaml").write_text(params + STUDY)
    shutil.copy(ROOT / "prompts/simulate.yaml", workspace / "prompts/simulate.yaml")
    train, test, metrics = (workspace / name for name in ("train.parquet", "test.parquet", "metrics"))
    found = []
    for suffix in (".tab", ".dta"):
        surveying.main(write(people(), workspace, suffix), BOOK, workspace / "respondents.parquet")
        interviewing.main(workspace / "respondents.parquet", BOOK, train, test)
        found.append((pq.read_table(train).to_pylist(), pq.read_table(test).to_pylist()))
    assert found[0] == found[1]  # so what follows is the same for both formats
    simulate.main(base_model, train, workspace / "opinion")
    outputs = [metrics / name for name in ("opinion.json", "opinion.csv", "opinion_groups.csv", "opinion.parquet")]
    opinion.main(base_model, workspace / "opinion", train, test, *outputs)
    figures = json.loads(outputs[0].read_text())
    assert set(figures) >= {"base", "tuned", "uniform", "marginal", "logistic", "forest", "reduction", "sample"}
    assert set(figures["reduction"]["kl"]) == {"value", "low", "high"}
    assert 1 < figures["sample"]["respondents"]["effective"] < figures["sample"]["respondents"]["respondents"] <= 6
    answers = pq.read_table(outputs[3]).to_pylist()
    assert all(sum(row["probabilities"]) == pytest.approx(1, abs=1e-5) for row in answers)
    assert {row["model"] for row in answers} == {"base", "tuned", "uniform", "marginal", "logistic", "forest"}


def test_a_file_whose_scale_runs_the_other_way_is_refused(workspace: Path) -> None:
    frame = people()
    path = workspace / "j_indresp.sav"
    turned = dict(zip(AGREEMENT, reversed(AGREEMENT.values()), strict=True))
    pyreadstat.write_sav(frame, str(path), variable_value_labels={"j_scenv_bccc": turned})
    with pytest.raises(InputError, match=r"items\.lifestyle \(j_scenv_bccc\): code 1 is 'strongly disagree' in the file"):
        surveying.main(path, BOOK, workspace / "respondents.parquet")
    assert not (workspace / "respondents.parquet").exists()


def test_a_file_of_another_wave_is_refused(workspace: Path) -> None:
    path = write(people().rename(columns=lambda name: name.replace("j_", "d_")), workspace, ".tab")
    with pytest.raises(InputError, match=r"lacks: j_indscui_xw \(perhaps d_indscui_xw\?\).*survey\.edition"):
        surveying.main(path, BOOK, workspace / "respondents.parquet")
