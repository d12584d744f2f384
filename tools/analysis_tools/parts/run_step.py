"""A training step inside a run, with its data, schedules and hooks."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from mmpanoptic import cli
from mmpanoptic.apis import get_config
from mmpanoptic.engine.runner import PanopticRunner

DESCRIPTION = "the demo's training from files, one loader worker, without validation."
BASELINE = (
    "the same runner repeating one batch in memory, without any hook but that of the optimizer; "
    "both build the runner, which the medians of an iteration leave out."
)
CONFIG = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"
STEPS = {"default": 40, "small": 3}
SKIPPED = 2
"""First iterations, which fill caches."""


class _Clock(Hook):
    """Note when iterations end."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_train_iter(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def make_inputs(size: str = "default") -> dict[str, Any]:
    """Generate the dataset."""
    folder = tempfile.TemporaryDirectory()
    data = Path(folder.name, "shapes")
    cli.call_tool("dataset_converters/shapes.py", str(data), folder=Path.cwd(), silent=True)
    return {"folder": folder, "data": data, "steps": STEPS[size]}


def _run(inputs: dict[str, Any], train: Callable[[Any, _Clock], None]) -> list[float]:
    cfg = get_config(CONFIG)
    work = tempfile.mkdtemp(dir=inputs["folder"].name)
    cfg.merge_from_dict(
        {
            "work_dir": work,
            "log_level": "ERROR",
            "default_hooks.checkpoint": None,
            "train_cfg.max_iters": inputs["steps"],
            "train_dataloader.dataset.data_root": str(inputs["data"]),
        }
    )
    for name in ("val_cfg", "val_dataloader", "val_evaluator"):
        cfg[name] = None
    for name in ("test_cfg", "test_dataloader", "test_evaluator"):
        cfg[name] = None
    runner = PanopticRunner.from_cfg(cfg)
    clock = _Clock()
    train(runner, clock)
    ends = clock.ends[SKIPPED - 1 :]
    return [after - before for before, after in zip(ends, ends[1:], strict=False)]


def baseline(inputs: dict[str, Any]) -> list[float]:
    """Repeat a batch."""

    def train(runner: Any, clock: _Clock) -> None:
        loop = runner.build_train_loop(runner._train_loop)
        model = runner.model.train()
        model.init_weights()
        optim = runner.build_optim_wrapper(runner.optim_wrapper)
        batch = next(iter(loop.dataloader))
        for _ in range(inputs["steps"]):
            model.train_step(batch, optim_wrapper=optim)
            clock.after_train_iter()

    return _run(inputs, train)


def ours(inputs: dict[str, Any]) -> list[float]:
    """Train."""

    def train(runner: Any, clock: _Clock) -> None:
        runner.register_hook(clock, "LOWEST")
        runner.train()

    return _run(inputs, train)


def check(expected: list[float], got: list[float]) -> None:
    """Seconds are all there is to compare."""
    if len(expected) != len(got):
        raise AssertionError(f"{len(got)} iterations, not {len(expected)}")


def note(expected: list[float], got: list[float]) -> str:
    """Say what an iteration takes."""
    alone, inside = statistics.median(expected), statistics.median(got)
    return f"{inside:.3f} s in a run, {alone:.3f} s alone: {inside / alone:.2f} times"
