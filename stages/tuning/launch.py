"""A training stage started once for each of several processes, by torch's elastic launcher, which ``torchrun`` is the command of."""

import importlib
import inspect
import logging
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from stages.core.errors import InputError

REFUSED = 2  # exit code of a process that cannot work with its input
PATIENCE = timedelta(days=1)  # with each other; one that ends ends the others at once


def relaunched(processes: int, module: str, *arguments: object) -> bool:
    """Run the stage ``module`` in ``processes`` processes and wait for them; false if this process is to do the work itself.

    :raises InputError: what a process raised, or that one was ended from outside.
    """
    if processes == 1 or dist.is_initialized():
        return False
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the message of the process that failed says more
    with tempfile.TemporaryDirectory() as folder:
        refusal = Path(folder) / "refusal"
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            run_id=str(os.getpid()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",  # without it the machine's name is looked up
            max_restarts=0,
            monitor_interval=0.2,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "stages.tuning.launch", str(refusal), module, *map(str, arguments))
        except ChildFailedError as error:
            if refusal.exists():
                raise InputError(refusal.read_text(encoding="utf-8")) from error
            number, failure = error.get_first_failure()
            raise InputError(f"process {number} of {processes} ended with {failure.exitcode}: see above. Repeat to go on from the last checkpoint.") from error
    return True


def work(refusal: Path, module: str, *arguments: str) -> None:
    """Run the ``main`` of a stage as one of several processes; if it refuses its input, ``refusal`` is filled with its message."""
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    if torch.cuda.is_available():
        torch.cuda.set_device(dist.get_rank() % torch.cuda.device_count())
    stage = importlib.import_module(module).main
    types = [parameter.annotation for parameter in inspect.signature(stage).parameters.values()]
    try:
        stage(*(kind(argument) for kind, argument in zip(types, arguments, strict=True)))
    except InputError as error:
        refusal.write_text(str(error), encoding="utf-8")
        sys.exit(REFUSED)
    dist.destroy_process_group()


if __name__ == "__main__":
    work(Path(sys.argv[1]), sys.argv[2], *sys.argv[3:])
