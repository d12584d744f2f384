"""A quiet console: lines of progress, tables and warnings; everything else stands in the log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmpanoptic.checkpoints.errors import CheckpointError
from mmpanoptic.checkpoints.run_folder import run_checkpoint

Show = Callable[[str, bool], None]
"""Takes a line, and whether it stays or is replaced by the next one."""
_shown: list[Show] = []
ALWAYS = {"console": "always"}
"""``extra`` of a log record that a quiet console shows."""
TABLE = {"console": "table"}
"""``extra`` of a log record that a quiet console shows unless a training validates."""
PARTS = 10
"""Lines of a training that stay."""


@contextmanager
def quiet_console(show: Show) -> Iterator[None]:
    """Let the runners that are built in this block tell their progress only.

    Args:
        show (Callable): Shows a line.
    """
    _shown.append(show)
    try:
        yield
    finally:
        _shown.pop()


class _Quiet(logging.Filter):
    """Admit warnings and what is meant for the console."""

    in_training = False

    def filter(self, record: logging.LogRecord) -> bool:
        wanted = getattr(record, "console", None)
        tables = wanted == "table" and not self.in_training
        return record.levelno >= logging.WARNING or wanted == "always" or tables


class _Plain(logging.Formatter):
    """Leave time and name to the log file."""

    def format(self, record: logging.LogRecord) -> str:
        urgent = record.levelno >= logging.WARNING
        return f"{record.levelname.lower()}: " * urgent + record.getMessage()


def quieten(logger: logging.Logger) -> None:
    """Inside :func:`quiet_console`, let a logger write to the console what :class:`_Quiet` admits.

    Its files get everything.
    """
    if not _shown:
        return
    for handler in logger.handlers:
        is_console = type(handler) is logging.StreamHandler
        if is_console and not any(isinstance(f, _Quiet) for f in handler.filters):
            handler.addFilter(_Quiet())
            handler.setFormatter(_Plain())


def in_words(seconds: float) -> str:
    """Write a time as ``1:02:03``."""
    return str(timedelta(seconds=round(seconds)))


def memory() -> str:
    """Say how much memory was needed at most: of the GPU, or else of this process."""
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GB"
    if sys.platform == "win32":
        return ""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return f"{unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30:.1f} GB"


class ProgressHook(Hook):
    """Tell on a quiet console how far a run is.

    Args:
        show (Callable): Shows a line.
    """

    priority = "LOWEST"

    def __init__(self, show: Show) -> None:
        self.show = show
        self._start = self._told = time.perf_counter()
        self._first = 0

    def before_train(self, runner: Runner) -> None:
        """Say what begins.

        Args:
            runner (Runner): The runner.
        """
        self._start, self._first = time.perf_counter(), runner.iter
        self._in_training(runner, True)
        if is_main_process():
            log = runner.logger.log_file
            self.show(f"training to iteration {runner.max_iters}; the log is {log}", True)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Show iteration, loss, learning rate, time left and memory.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Not used.
            data_batch: Not used.
            outputs: Not used.
        """
        done, total = runner.iter + 1, runner.max_iters
        stays = done * PARTS // total != (done - 1) * PARTS // total
        if not is_main_process() or not (stays or self._is_due()):
            return
        scalars = runner.message_hub.log_scalars
        loss = scalars["train/loss"].mean(20) if "train/loss" in scalars else float("nan")
        rate = max(max(values) for values in runner.optim_wrapper.get_lr().values())
        elapsed = time.perf_counter() - self._start
        left = elapsed / (done - self._first) * (total - done)
        line = f"Iter(train) [{done:>{len(str(total))}}/{total}]  lr: {rate:.4e}"
        line += f"  eta: {in_words(left)}  memory: {memory()}  loss: {loss:.4f}"
        self.show(line, stays)

    def _is_due(self) -> bool:
        now = time.perf_counter()
        if now - self._told < 0.5:
            return False
        self._told = now
        return True

    def _after_data(self, what: str, batch_idx: int, loader: Any) -> None:
        if is_main_process() and self._is_due():
            self.show(f"{what} {batch_idx + 1}/{len(loader)}", False)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Show how far validation is.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Number of the batch.
            data_batch: Not used.
            outputs: Not used.
        """
        self._after_data("validating", batch_idx, runner.val_dataloader)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Show how far a test is.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Number of the batch.
            data_batch: Not used.
            outputs: Not used.
        """
        self._after_data("testing", batch_idx, runner.test_dataloader)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Show what validation gave.

        Args:
            runner (Runner): The runner.
            metrics (Mapping | None): By name.
        """
        if not is_main_process() or not metrics:
            return
        main = ("PQ", "PQ_th", "PQ_st", "mIoU")
        names = [name for name in metrics if name.rpartition("/")[2] in main]
        shown = "  ".join(f"{name}: {metrics[name]:.4f}" for name in names or list(metrics)[:1])
        self.show(f"Iter(val) [{runner.iter}/{runner.max_iters}]  {shown}", True)

    def after_test_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Show what a test gave.

        Args:
            runner (Runner): The runner.
            metrics (Mapping | None): By name.
        """
        numbers = {k: v for k, v in (metrics or {}).items() if isinstance(v, int | float)}
        if is_main_process() and numbers:
            shown = "  ".join(f"{name}: {value:.4f}" for name, value in numbers.items())
            self.show(f"Iter(test)  {shown}", True)

    def after_train(self, runner: Runner) -> None:
        """Say where the weights are.

        Args:
            runner (Runner): The runner.
        """
        self._in_training(runner, False)
        if is_main_process():
            took = f"done in {in_words(time.perf_counter() - self._start)}"
            with suppress(CheckpointError):  # a search writes none
                took += f"; weights: {run_checkpoint(runner.work_dir)}"
            self.show(took, True)

    @staticmethod
    def _in_training(runner: Runner, value: bool) -> None:
        for handler in runner.logger.handlers:
            for one in handler.filters:
                if isinstance(one, _Quiet):
                    one.in_training = value


def progress_hooks() -> list[ProgressHook]:
    """Make the hook of a quiet console; none where it is not quiet."""
    return [ProgressHook(_shown[-1])] if _shown else []
