"""What ``tools/train.py`` and ``tools/test.py`` share."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmpanoptic.checkpoints.loading import CheckpointError
from mmpanoptic.registry import ConfigError

from ..utils.cfg_options import ConfigOptions
from ..utils.format_errors import PanopticFormatError
from ..utils.locks import FolderInUseError
from .config_keys import apply_options, check_keys
from .distributed import close_process_group
from .non_finite import NonFiniteLossError
from .rank_watch import LostRankError

_FORESEEABLE = (
    *(CheckpointError, ConfigError, FolderInUseError, LostRankError, NonFiniteLossError),
    *(PanopticFormatError, OSError),
)
LAUNCHERS = ("none", "pytorch", "slurm", "mpi")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that both tools take.

    Args:
        parser (argparse.ArgumentParser): Extended in place.
    """
    parser.add_argument(
        "--work-dir", help="folder for logs and checkpoints (default work_dirs/NAME_OF_CONFIG)"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=ConfigOptions,
        metavar="KEY=VALUE",
        help="replace settings of the config: a.b=3 list='[1,2]' name=text",
    )
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, default="none", help="set by dist_*.sh and slurm_*.sh"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="admit bookkeeping classes of mmengine, mmdet and mmsegmentation in checkpoints",
    )
    # torch.distributed.launch passes it; torchrun sets the variable instead.
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)


def read_config(path: Path, args: argparse.Namespace) -> Config:
    """Read a config file and apply the common arguments.

    Args:
        path (Path): The file. It is Python and gets executed.
        args (argparse.Namespace): What :func:`add_common_arguments` adds.

    Returns:
        Config: The config; its placeholders are not filled in yet.
    """
    if args.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = Config.fromfile(path)
    check_keys(cfg)
    apply_options(cfg, args.cfg_options or {})
    cfg.launcher = args.launcher
    cfg.setdefault("runner_type", "PanopticRunner")
    cfg.setdefault("default_scope", "mmpanoptic")
    cfg.trust_checkpoint = args.trust
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get("work_dir"):
        cfg.work_dir = os.path.join("work_dirs", path.stem)
    return cfg


def build_runner(cfg: Config) -> Any:
    """Build the runner that the config names."""
    from mmpanoptic.registry import RUNNERS

    return RUNNERS.build(cfg)


def set_predictions_folder(cfg: Config, folder: str, format_only: bool) -> None:
    """Let the test's metrics write their predictions, in the form that their test server takes.

    Args:
        cfg (Config): Changed in place.
        folder (str): Receives ``predictions.panoptic.json`` and ``predictions.panoptic/*.png``,
            and what other metrics write (``predictions.segm.json``, ``predictions.semantic/``).
        format_only (bool): Write the files and compute no metric; metrics that write none are
            left out.

    Raises:
        ValueError: If none of the test's metrics writes files.
    """
    metrics = list(_metrics(cfg.get("test_evaluator")))
    writers = [metric for metric in metrics if _writes_files(metric)]
    if not writers:
        raise ValueError(
            "--out and --format-only need a metric that writes files, such as "
            "PanopticQualityMetric, in the config's test_evaluator, which has "
            f"{', '.join(str(m.get('type')) for m in metrics) or 'no metric'}"
        )
    for metric in writers:
        metric["outfile_prefix"] = os.path.join(folder, "predictions")
        metric["format_only"] = format_only
    if format_only:
        cfg.test_evaluator = writers


def use_test_time_augmentation(cfg: Config) -> None:
    """Test with averages over augmentations of each image.

    Args:
        cfg (Config): Changed in place. ``tta_model`` wraps the model (``PanopticTTAModel`` by
            default) and ``tta_pipeline`` takes the place of the test pipeline; without one the
            image and its mirror image are averaged.
    """
    dataset = cfg.test_dataloader.dataset
    while "pipeline" not in dataset and "dataset" in dataset:
        dataset = dataset.dataset
    pipeline = cfg.get("tta_pipeline")
    if pipeline is None:
        pipeline = dataset.pipeline
        if isinstance(pipeline, str):  # "$name", a variable of the config
            pipeline = cfg[pipeline.removeprefix("$")]
        *steps, pack = pipeline
        flips = [{"type": "PanopticRandomFlip", "prob": prob} for prob in (0.0, 1.0)]
        pipeline = [*steps, {"type": "TestTimeAug", "transforms": [flips, [pack]]}]
    dataset.pipeline = pipeline
    wrapper = cfg.get("tta_model") or {"type": "PanopticTTAModel"}
    cfg.model = {**wrapper, "module": cfg.model}


def _writes_files(metric: MutableMapping[str, Any]) -> bool:
    """Tell whether a metric takes mmdet's usual arguments for writing predictions."""
    from mmpanoptic.registry import METRICS

    kind = metric.get("type")
    found = METRICS.get(kind) if isinstance(kind, str) else kind
    if found is None:
        return False
    return {"outfile_prefix", "format_only"} <= set(inspect.signature(found).parameters)


def _metrics(evaluator: Any) -> Iterable[MutableMapping[str, Any]]:
    if isinstance(evaluator, list | tuple):
        for part in evaluator:
            yield from _metrics(part)
    elif isinstance(evaluator, MutableMapping):
        if "metrics" in evaluator:
            yield from _metrics(evaluator["metrics"])
        else:
            yield evaluator


def run_command(action: Callable[[], Any]) -> int:
    """Run a tool's main part; a foreseeable error gives its message instead of a traceback.

    Several processes end together, see :func:`.distributed.close_process_group`.

    Args:
        action (Callable): The main part.

    Returns:
        int: Exit status.
    """
    try:
        action()
        close_process_group()
    except _FORESEEABLE as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0
