"""Where things lie that outlive a run: response cache, converted models, locks.

They are kept under the repository root, out of git and out of DVC, and are shared by every experiment, including those that DVC runs in a
temporary copy of the repository.
"""

import os
from pathlib import Path

STATE = ".plumbline"


def repository_root() -> Path:
    """The folder of the user's repository, also from within DVC's temporary copies (``.dvc/tmp/exps/…``)."""
    folder = Path(os.environ.get("DVC_ROOT", ".")).resolve()
    parts = folder.parts
    for i in range(len(parts) - 2):
        if parts[i : i + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:i])
    return folder


def state_folder(name: str) -> Path:
    """The folder for one kind of kept state, made if missing.

    ``PLUMBLINE_STATE`` in the environment moves all of them, for example to a larger disk.
    """
    folder = Path(os.environ.get("PLUMBLINE_STATE", repository_root() / STATE)) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
