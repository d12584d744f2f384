"""Train a model.

Several processes: tools/dist_train.sh CONFIG NUMBER. Slurm: tools/slurm_train.sh.
"""

from __future__ import annotations

import argparse
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpanoptic import cli
from mmpanoptic.utils import threads

if TYPE_CHECKING:
    from mmengine.config import Config

EXAMPLES = """
  %(prog)s panoptic-deeplab_r18-tiny_1xb8-500_shapes --work-dir work_dirs/tiny
  %(prog)s CONFIG --resume                       # go on with the newest whole checkpoint, if any
  %(prog)s CONFIG --cfg-options data_root=/data/coco max_iters=1000
  %(prog)s CONFIG --log-to tensorboard           # then: tensorboard --logdir work_dirs
  WANDB_MODE=offline %(prog)s CONFIG --log-to wandb

The work folder gets checkpoints, the config, logs, and in the end curves.png and curves.html. In
test and infer it stands for its best checkpoint, else for its newest.

A run that is stopped (also by kill -9) and started again with --resume gives on a CPU the same
weights, bit by bit, as one that was never stopped.
"""

LOGGERS = {
    "tensorboard": ("TensorboardVisBackend", "tensorboard", "tensorboard"),
    "wandb": ("WandbBackend", "wandb", "wandb"),
    "mlflow": ("MLflowBackend", "mlflow", "mlflow-skinny"),
}
"""Backend, module and package by the name that ``--log-to`` takes."""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config")
    parser.add(
        "--resume",
        nargs="?",
        const="auto",
        metavar="FILE",
        help="go on from FILE, or from the newest whole checkpoint of the work folder (or of FILE, "
        "if that is a folder)",
    )
    parser.add("--amp", action="store_true", help="mixed precision: bfloat16 or float16")
    parser.add("--no-validate", action="store_true", help="train without validation")
    parser.add(
        "--patience",
        type=cli.at_least(1),
        metavar="N",
        help="stop when N validations in a row have not become better, by what save_best of the "
        "config says, else by PQ",
    )
    parser.add(
        "--auto-scale-lr", action="store_true", help="scale the learning rate by the batch size"
    )
    parser.add(
        "--auto-batch",
        action="store_true",
        help="try before the run how many images the GPU's memory holds, take so many, and scale "
        "the schedule as --auto-scale-lr does",
    )
    parser.add(
        "--log-to",
        nargs="+",
        choices=tuple(LOGGERS),
        metavar="NAME",
        help="send losses, rates, metrics and pictures of the validation there, too: "
        f"{', '.join(LOGGERS)}",
    )
    parser.add("--seed", type=cli.at_least(0), help="seed of the run (default: the config's)")
    parser.add("--deterministic", action="store_true", help="deterministic algorithms")
    parser.take(*cli.RUN_ARGUMENTS)
    return parser


def adapt_config(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the arguments of training to the config.

    Raises:
        UsageError: If the config lacks what an argument needs.
    """
    if args.amp:
        cfg.optim_wrapper.type = "AutocastOptimWrapper"
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.get("default_hooks", {}).get("checkpoint", {}).pop("save_best", None)
    if args.patience:
        if args.no_validate:
            raise cli.UsageError("--patience needs validation; leave --no-validate out")
        best = (cfg.get("default_hooks") or {}).get("checkpoint", {}).get("save_best") or "PQ"
        stop = {"type": "PatienceStopHook", "monitor": best, "patience": args.patience}
        cfg.custom_hooks = [*cfg.get("custom_hooks", ()), stop]
    for name in dict.fromkeys(args.log_to or ()):
        log_to(cfg, name)
    scale(cfg, args)
    go_on(cfg, args.resume)
    randomness = dict(cfg.get("randomness", {}))
    if args.seed is not None:
        randomness["seed"] = args.seed
    if args.deterministic:
        randomness["deterministic"] = True
    if randomness:
        cfg.randomness = randomness


def scale(cfg: Config, args: argparse.Namespace) -> None:
    """Apply what adapts a schedule to another batch.

    Raises:
        UsageError: If the config does not say its batch, or a run that goes on would get another.
    """
    if args.auto_scale_lr:
        if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
            raise cli.UsageError(
                "--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N) in the config, N "
                "being the total batch size for which the learning rate was chosen"
            )
        cfg.auto_scale_lr.enable = True
    if args.auto_batch:
        if args.resume:
            raise cli.UsageError(
                "a run that goes on keeps its batch: leave --auto-batch out, and name the folder "
                "of the run as CONFIG, which has the batch that was found"
            )
        cfg.auto_batch = True


def go_on(cfg: Config, resume: str | None) -> None:
    """Apply ``--resume``: a new run starts from the config's weights, else a checkpoint's state."""
    if resume == "auto":
        cfg.resume, cfg.initial_weights, cfg.load_from = True, cfg.get("load_from"), None
    elif resume:
        cfg.resume, cfg.load_from = True, resumable(resume)


def log_to(cfg: Config, name: str) -> None:
    """Add a backend to the visualizer, and let validations send pictures.

    Args:
        cfg (Config): Changed in place.
        name (str): Key of :data:`LOGGERS`.

    Raises:
        UsageError: If the package is absent, or the config has no visualizer.
    """
    from mmpanoptic.engine.config_keys import value_of

    backend, module, package = LOGGERS[name]
    if importlib.util.find_spec(module) is None:
        raise cli.UsageError(f"--log-to {name} needs a package more: pip install {package}")
    if not cfg.get("visualizer"):
        raise cli.UsageError("--log-to needs a visualizer in the config, as default_runtime.py has")
    backends = value_of(cfg, cfg.visualizer.get("vis_backends") or [])
    if backend not in [one["type"].rpartition(".")[2] for one in backends]:
        cfg.visualizer.vis_backends = [*backends, {"type": backend}]
    pictures = (cfg.get("default_hooks") or {}).get("visualization")
    if pictures:
        pictures.setdefault("draw", True)


def resumable(path: str) -> str:
    """Return a checkpoint to go on from; of a run's folder the newest, not the best."""
    if not Path(path).expanduser().is_dir():
        return path
    from mmpanoptic.engine.resume import find_checkpoint

    found = find_checkpoint(Path(path).expanduser(), warnings.warn)
    if found is None:
        raise FileNotFoundError(f"the folder {path} holds no checkpoint to go on from")
    return str(found)


def run(args: argparse.Namespace) -> Iterator[str]:
    """Train as the arguments say; draw the curves."""
    threads.settle()
    from mmengine.dist import is_main_process

    from mmpanoptic.registry import RUNNERS

    from .analysis_tools.plot_curves import write_curves

    cfg = cli.read_run_config(args)
    adapt_config(cfg, args)
    with cli.run_console(args):
        runner: Any = RUNNERS.build(cfg)
        runner.train()
    if is_main_process():
        yield from write_curves(Path(runner.work_dir))


main = cli.Command(build_parser, run)
