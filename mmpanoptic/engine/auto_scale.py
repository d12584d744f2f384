"""Learning rate and length of a training for the batch at hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size, is_distributed

from .config import resolve_variables
from .distributed import RANK_VARIABLES

VARIABLES = ("base_lr", "max_iters")


def count_processes(launcher: str) -> int:
    """Tell how many processes take part, also before their group is set up.

    Args:
        launcher (str): ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Returns:
        int: Number of processes.
    """
    if is_distributed() or launcher == "none":
        return get_world_size()
    return int(os.environ.get(RANK_VARIABLES[launcher][1], 1))


def scale_to_batch(cfg: Config, num_processes: int) -> str | None:
    """Adapt the learning rate and the number of iterations to the images of an iteration.

    As detectors are scaled: the rate in proportion to the images of one step of the optimizer, the
    number of iterations (and with it milestones and whatever else the config takes from
    ``"$max_iters"``) in inverse proportion to the images of an iteration. The warm-up keeps its
    number of iterations: it must not vanish where batches are large.

    Args:
        cfg (Config): Config with its placeholders; ``base_lr`` and ``max_iters`` are changed in
            place if ``auto_scale_lr`` is enabled.
        num_processes (int): Number of processes, each of which takes a batch.

    Returns:
        str | None: One line that says what was done, or that a schedule does not fit the batch;
        None where there is nothing to say.

    Raises:
        ValueError: If scaling is asked for, but the config does not say for which batch it is.
    """
    settings = cfg.get("auto_scale_lr") or {}
    enabled = settings.get("enable", False)
    if "base_batch_size" not in settings:
        if enabled:
            raise ValueError(
                "--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N) in the config, N "
                "being the images of an iteration that its learning rate and length were chosen for"
            )
        return None
    before = resolve_variables(cfg)
    if not (before.get("train_dataloader") or {}).get("batch_size"):
        return None  # a config for testing alone
    images = before.train_dataloader.batch_size * num_processes
    found = f"{images} images an iteration ({num_processes} x {before.train_dataloader.batch_size})"
    base = settings["base_batch_size"]
    accumulated = _accumulation(before.get("optim_wrapper")) / _accumulation(before.auto_scale_lr)
    if images == base and accumulated == 1:
        return None
    if not enabled:
        return (
            f"the schedule is made for {base} images an iteration; with {found} the run sees "
            f"{images / base:.3g} times the images, at the learning rate of the other batch. "
            "--auto-scale-lr adapts both"
        )
    missing = [name for name in VARIABLES if name not in cfg]
    if missing:  # a config of another origin: mmengine scales the learning rate alone
        return f"only the learning rate is scaled, since the config has no {' and '.join(missing)}"
    cfg.base_lr = before.base_lr * images * accumulated / base
    cfg.max_iters = max(1, round(before.max_iters * base / images))
    cfg.auto_scale_lr = {**settings, "enable": False}  # done; mmengine would scale once more
    after = resolve_variables(cfg)
    changes = [
        f"{name} {_short(before[name])} -> {_short(after[name])}"
        for name in (*VARIABLES, "milestones", "val_interval")
        if name in after and before[name] != after[name]
    ]
    return f"auto_scale_lr: {found} instead of {base}: {', '.join(changes)}; the warm-up stays"


def _accumulation(settings: Mapping[str, Any] | None) -> int:
    return (settings or {}).get("accumulative_counts", 1)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
