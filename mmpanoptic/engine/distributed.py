"""Process groups on machines without a GPU."""

from __future__ import annotations

import datetime
import gc
import os
import signal
import subprocess
import threading
import time
from typing import Any

import torch.distributed as dist

from ..utils.jobs import is_running
from .rank_watch import RankWatch

_watches: list[RankWatch] = []
_LOOK_SECONDS = 0.5

LAUNCHER = "MMPANOPTIC_LAUNCHER"
"""Variable with the process that started this one and watches it."""

RANK_VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
"""Environment variables of rank, number of processes and local rank, by launcher."""


def init_cpu_process_group(launcher: str, timeout: float | None = None, **_: Any) -> None:
    """Start the process group with gloo.

    mmengine's ``init_dist`` selects a CUDA device first, which a machine without one cannot.

    Args:
        launcher (str): ``pytorch`` (torchrun), ``slurm`` or ``mpi``.
        timeout (float | None): Seconds that a collective operation may take.
        **_: Other settings of ``env_cfg.dist_cfg`` (the backend), which concern GPUs.

    Raises:
        ValueError: If the launcher is unknown, or its environment variables are missing.
    """
    if launcher not in RANK_VARIABLES:
        raise ValueError(f"unknown launcher {launcher!r}; known: {', '.join(RANK_VARIABLES)}")
    names = RANK_VARIABLES[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ValueError(
            f"launcher {launcher!r} needs the environment variables {', '.join(missing)}; start "
            "the program by tools/dist_train.sh or tools/slurm_train.sh, or use --launcher none"
        )
    for target, name in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), names, strict=True):
        os.environ[target] = os.environ[name]
    os.environ.setdefault("MASTER_PORT", "29500")
    if "MASTER_ADDR" not in os.environ:
        os.environ["MASTER_ADDR"] = _first_node() if launcher == "slurm" else "127.0.0.1"
    limit = None if timeout is None else datetime.timedelta(seconds=timeout)
    dist.init_process_group("gloo", timeout=limit)


def end_with_launcher(grace: float) -> None:
    """End this process when the launcher that started it (``tools/dev/launch.py``) is gone.

    A launcher that is killed leaves its processes, which would hold their GPUs and, once the run
    has started again without them, its folder. They get SIGTERM, on which a training saves its
    state.

    Args:
        grace (float): Seconds until a process that does not end by itself is ended.
    """
    launcher = int(os.environ.get(LAUNCHER, 0))
    if not launcher or (launcher != os.getppid() and is_running(launcher)):
        return  # another one's process

    def wait() -> None:
        while os.getppid() == launcher:
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os._exit(1)

    threading.Thread(target=wait, name="launcher watch", daemon=True).start()


def start_watch(timeout: float) -> RankWatch:
    """Let the processes watch each other until :func:`close_process_group`.

    Args:
        timeout (float): Seconds, see :class:`.rank_watch.RankWatch`.
    """
    if not _watches:
        _watches.append(RankWatch(timeout))
    return _watches[0]


def close_process_group() -> None:
    """End the process group after every process has arrived here; do nothing without one.

    A process that ends while another one still talks to it can take that one down with it. Models
    wrapped for several processes must be gone by now: let the functions that hold them return.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    dist.barrier()
    if _watches:
        _watches.pop().stop()
    # gloo's threads are joined when the last reference to the group goes. A wrapped model holds
    # one and drops it under the interpreter's lock, for which gloo's thread may be waiting in order
    # to forget its last work: both would wait for ever. Ours, the last one, goes without the lock.
    group = dist.group.WORLD
    gc.collect()
    dist.destroy_process_group()
    del group


def _first_node() -> str:
    command = ["scontrol", "show", "hostnames", os.environ["SLURM_NODELIST"]]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]  # noqa: S603
