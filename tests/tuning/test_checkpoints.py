from pathlib import Path

from stages.core.params import Datasets, Starts, Study
from stages.tuning.checkpoints import Checkpoint, adapter_names, curve


def test_undone_adapters_come_after_those_that_lean() -> None:
    study = Study(leanings=("left", "control"), sft=Datasets(datasets=("posts",)), undo=Starts(starts=("left-posts", "base")))
    assert adapter_names(study) == ["left-posts", "left-preference", "control-posts", "control-preference", "balanced-left-posts", "balanced-base"]


def test_curves_begin_with_what_was_tuned() -> None:
    base = Checkpoint("base", 0, None)
    left = [Checkpoint("left-posts", step, Path("x")) for step in (8, 16)]
    undone = [Checkpoint(name, 4, Path("x")) for name in ("balanced-left-posts", "balanced-base")]
    found = curve([base, *left, *undone])
    assert found[:3] == [("left-posts", 0, base), ("balanced-left-posts", 0, left[1]), ("balanced-base", 0, base)]
    assert found[3:] == [(point.adapter, point.step, point) for point in [*left, *undone]]
