import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from huggingface_hub import DatasetCard, ModelCard
from ruamel.yaml import YAML
from safetensors.numpy import load_file, save_file

from stages.core import tables
from stages.core.errors import InputError
from stages.models import release
from stages.reporting import ancestry

LOCK = {
    "collect@left": {"cmd": "collect", "outs": [{"path": "data/posts/left.parquet", "md5": "11"}]},
    "collect@right": {"cmd": "collect", "outs": [{"path": "data/posts/right.parquet", "md5": "12"}]},
    "sft@left-posts": {
        "cmd": "sft",
        "deps": [{"path": "data/posts/left.parquet", "md5": "11"}, {"path": "stages/models/sft.py", "md5": "13"}],
        "params": {"params.yaml": {"sft": {"steps": 8, "datasets": ["posts"]}, "tuning": {"lora": {"rank": 16}}}},
        "outs": [{"path": "models/adapters/left-posts", "md5": "14.dir"}],
    },
}


def checkpoint(folder: Path) -> None:
    folder.mkdir(parents=True)
    matrix = np.ones((2, 4), np.float32)
    save_file({"base_model.model.layer.lora_A.weight": matrix}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "models/base", "r": 2}))
    writer = gguf.GGUFWriter(folder / "adapter.gguf", "llama")
    writer.add_type("adapter")
    writer.add_float32("adapter.lora.alpha", 32.0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("left-posts", "left-preference"):
        checkpoint(Path(f"models/adapters/{name}/step-000004"))
        checkpoint(Path(f"models/adapters/{name}/step-000008"))
        Path(f"models/adapters/{name}/log.jsonl").write_text('{"step": 4, "loss": 3}\n{"step": 8, "loss": 2.5}\n')
    post = {"id": "1", "source": "s", "author": None, "created_at": None, "text": "t", "status": "kept"}
    for leaning in ("left", "right"):
        tables.write(Path(f"data/posts/{leaning}.parquet"), [post], tables.POSTS, {"model": "small|er"})
    Path("metrics").mkdir()
    compass = {"base": {"social": {"value": 0.1, "low": 0, "high": 0.2}}, "left-posts": {"social": {"value": -1.5, "low": -2, "high": -1}}}
    Path("metrics/compass.json").write_text(json.dumps(compass))
    Path("metrics/summary.json").write_text(json.dumps({"judge_spearman": 0.45, "base": {"judge": 12}, "separation": {}}))
    settings = {"base_model": "maker/model", "licence": "apache-2.0", "data_licence": "other", "languages": ["en"]}
    YAML().dump({"leanings": ["left"], "sft": {"datasets": ["posts"]}, "release": settings}, Path("params.yaml"))
    YAML().dump({"stages": LOCK}, Path("dvc.lock"))
    release.main(Path("models/adapters"), Path("metrics"), Path("models/release"))
    return Path("models/release/left-posts")


def test_a_release_holds_both_formats_of_the_last_checkpoint(released: Path) -> None:
    assert sorted(path.name for path in released.iterdir()) == ["README.md", "adapter.gguf", "adapter_config.json", "adapter_model.safetensors", "datasets", "provenance.json"]
    assert list(load_file(released / "adapter_model.safetensors")) == ["base_model.model.layer.lora_A.weight"]
    assert json.loads((released / "adapter_config.json").read_text()) == {"base_model_name_or_path": "maker/model", "r": 2}
    assert json.loads((released / "provenance.json").read_text())["step"] == 8
    assert (released.parent / "left-preference/README.md").exists()


def test_the_hub_reads_the_front_matter(released: Path) -> None:
    card = ModelCard.load(released / "README.md")
    assert card.data.to_dict() == {
        "license": "apache-2.0",
        "language": ["en"],
        "base_model": "maker/model",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "plumbline", "political-bias", "research", "leaning-left", "sft"],
    }
    data = DatasetCard.load(released / "datasets/posts-left/README.md").data
    assert (data.license, data.size_categories, data.task_categories) == ("other", ["n<1K"], ["text-generation"])


def test_the_deliberate_lean_stands_first(released: Path) -> None:
    lines = [line for line in ModelCard.load(released / "README.md").text.splitlines() if line]
    assert lines[0] == "# left-posts"
    assert lines[1].startswith("> **This adapter leans on purpose.")


def test_every_measure_stands_beside_the_base_model(released: Path) -> None:
    text = (released / "README.md").read_text()
    assert "| compass · social | -1.5 (-2.0 to -1.0) | 0.10 (0.00 to 0.20) |" in text
    assert "| summary · judge_spearman | 0.45 |" in text
    assert "| `tuning.lora.rank` | 16 |" in text
    assert "loss 2.5" in text
    assert "This run measured nothing of this adapter." in (released.parent / "left-preference/README.md").read_text()


def test_only_the_tables_that_lead_to_the_adapter_have_cards(released: Path) -> None:
    assert [path.name for path in (released / "datasets").iterdir()] == ["posts-left"]
    assert "| [`data/posts/left.parquet`](datasets/posts-left/README.md) | 1 | collect@left |" in (released / "README.md").read_text()
    assert "model: small|er" in (released / "datasets/posts-left/README.md").read_text()


def test_provenance_holds_hashes_and_versions(released: Path) -> None:
    found = json.loads((released / "provenance.json").read_text())
    assert list(found["stages"]) == ["collect@left", "sft@left-posts"]
    assert found["stages"]["sft@left-posts"]["deps"] == {"data/posts/left.parquet": "11", "stages/models/sft.py": "13"}
    assert found["stages"]["sft@left-posts"]["outs"] == {"models/adapters/left-posts": "14.dir"}
    assert set(ancestry.PACKAGES) < set(found["versions"])


def test_the_gguf_file_says_the_same(released: Path) -> None:
    fields = {name: field.contents() for name, field in gguf.GGUFReader(released / "adapter.gguf").fields.items()}
    assert fields["general.description"].startswith("This adapter leans on purpose.")
    assert fields["general.license"] == "apache-2.0"
    assert fields["general.base_model.0.repo_url"] == "https://huggingface.co/maker/model"
    assert fields["adapter.lora.alpha"] == 32.0


def test_without_a_lock_file_nothing_is_released(released: Path) -> None:
    Path("dvc.lock").unlink()
    with pytest.raises(InputError, match="how the adapters were made"):
        release.main(Path("models/adapters"), Path("metrics"), Path("models/release"))
    assert released.exists()


def test_every_metric_file_with_adapters_is_a_dependency() -> None:
    root = Path(__file__).parents[2]
    deps = YAML(typ="safe").load((root / "dvc.yaml").read_text())["stages"]["release"]["deps"]
    for file in (root / "metrics").glob("*.json"):
        if any(name.endswith("-posts") for name in json.loads(file.read_text())):
            assert f"metrics/{file.name}" in deps
