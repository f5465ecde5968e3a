"""The command line of a stage, read off the signature of its ``main``."""

import argparse
import errno
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from stages.core.errors import InputError
from stages.core.workspace import state_folder


def run(main: Callable[..., None], argv: list[str] | None = None) -> None:
    """Call ``main`` with the arguments of the command line, and end the process with its exit code.

    Parameters of ``main`` are annotated with ``str`` or ``Path``; those that it takes by keyword only are options of that name, and must be
    given unless they have a default. The docstring of its module is the ``--help``. Two processes never run
    one command at once in one folder, because a killed ``dvc`` leaves its stage alive: the second one refuses.
    """
    module = inspect.getmodule(main)
    name = module.__spec__.name if module and module.__spec__ else main.__module__
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=module.__doc__ if module else None, formatter_class=argparse.RawDescriptionHelpFormatter)
    for parameter in inspect.signature(main).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            needed = parameter.default is parameter.empty
            parser.add_argument(f"--{parameter.name}", type=parameter.annotation, required=needed, default=None if needed else parameter.default)
        else:
            parser.add_argument(parameter.name, type=parameter.annotation)
    arguments: dict[str, Any] = vars(parser.parse_args(argv))
    try:
        with _only_one(f"{name} {sorted(arguments.items())}"):
            main(**arguments)
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        helps = "Make room (`dvc gc -w` deletes old results, `python -m stages.llm.cache_tool prune` old answers), then repeat: nothing half-written is left."
        print(f"{name}: the disk is full ({error}). {helps}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def _only_one(command: str) -> Iterator[None]:
    key = hashlib.sha256(f"{Path.cwd()} {command}".encode()).hexdigest()[:16]
    lock = filelock.FileLock(state_folder("locks") / f"{key}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise InputError(f"the same command is still running in {Path.cwd()}, perhaps left over from a killed run. Wait for it or end it, then repeat.") from error
    try:
        yield
    finally:
        lock.release()
