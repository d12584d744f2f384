"""Stop a run in time: on request, and where nothing improves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size
from mmengine.hooks import EarlyStoppingHook, EMAHook, Hook

from mmpanoptic.registry import HOOKS

from .checkpoint_hook import AtomicCheckpointHook, find_metric, known_metrics, rule_of

if TYPE_CHECKING:
    from .runner import PanopticRunner

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ValidationStopped(BaseException):
    """A signal came during a validation, which the resumed run repeats."""


@HOOKS.register_module()
class StopSignalHook(Hook):
    """On Ctrl-C or SIGTERM save a checkpoint after the current iteration and exit.

    A validation is given up; the resumed run repeats it. A second Ctrl-C ends the run at once.

    Cluster schedulers send SIGTERM before they end a job (Slurm: ``--signal=TERM@120``). The exit
    status, 143 (130 after Ctrl-C), lets them queue it again, and ``--resume`` goes on exactly where
    it stopped.
    """

    priority = "LOWEST"  # after the checkpoint hook and the schedulers

    def __init__(self) -> None:
        self._received = 0
        self._previous: dict[int, Any] = {}
        self._in_step = True

    def before_train(self, runner: PanopticRunner) -> None:
        """Catch the signals.

        Args:
            runner (PanopticRunner): The runner.
        """
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}

    def release(self) -> None:
        """Give the signals back; the runner does so however training ends."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def before_val_epoch(self, runner: PanopticRunner) -> None:
        """Find out whether all processes validate equally many batches.

        Args:
            runner (PanopticRunner): The runner.
        """
        if self._previous and get_world_size() > 1:
            lengths = all_gather_object(len(runner.val_dataloader))
            self._in_step = len(set(lengths)) == 1

    def after_val_iter(
        self,
        runner: PanopticRunner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Leave the validation if any process has got a signal.

        Args:
            runner (PanopticRunner): The runner.
            batch_idx (int): Number of the batch.
            data_batch: Unused.
            outputs: Unused.

        Raises:
            ValidationStopped: For :meth:`leave_validation`, which the training loop calls.
        """
        if self._previous and self._in_step and self._first_signal():
            raise ValidationStopped

    def after_train_iter(
        self,
        runner: PanopticRunner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Save and exit if any process has got a signal.

        Args:
            runner (PanopticRunner): The runner.
            batch_idx (int): Number of the batch.
            data_batch: Unused.
            outputs (Mapping | None): Unused.

        Raises:
            SystemExit: With status 130 or 143, if a signal came.
        """
        if number := self._first_signal():
            self._save_and_exit(runner, runner.iter + 1, number)

    def leave_validation(self, runner: PanopticRunner) -> None:
        """Save and exit from within a validation.

        Args:
            runner (PanopticRunner): The runner.

        Raises:
            SystemExit: With status 130 or 143.
        """
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook._swap_ema_parameters()  # as it would have done after the validation
        self._save_and_exit(runner, runner.iter, self._first_signal())

    def _save_and_exit(self, runner: PanopticRunner, iteration: int, number: int) -> None:
        for hook in runner.hooks:
            if isinstance(hook, AtomicCheckpointHook):
                hook.save_interrupted(runner, iteration)
                runner.logger.warning(
                    f"{signal.Signals(number).name}: iteration {iteration} is saved; go on with "
                    "--resume"
                )
        raise SystemExit(128 + number)

    def _note(self, number: int, *_: Any) -> None:
        if number == self._received == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number

    def _first_signal(self) -> int:
        """Agree with the other processes, which a signal reaches at other moments; 0 = none."""
        if get_world_size() == 1:
            return self._received
        flag = torch.tensor(self._received)
        all_reduce(flag, op="max")
        return int(flag)


@HOOKS.register_module()
class PatienceStopHook(EarlyStoppingHook):
    """Stop training when a metric has not improved for some validations.

    It takes the place of mmengine's ``EarlyStoppingHook``. The best state so far is kept:
    where the checkpoint hook saves no best one, it saves that of this metric.

    Differences from the original (``mmengine.hooks.EarlyStoppingHook``): checkpoints hold the best
    value and how long it has stood, so a resumed run stops where an undisturbed one does; a metric
    that no validation gives is an error; names without prefix (``PQ``) are understood, and it is
    known which metrics are better when greater; every improvement counts.

    Args:
        monitor (str): Name of the metric, ``PQ`` or ``coco_panoptic/PQ`` for instance.
        patience (int): Validations without improvement after which training ends.
        min_delta (float): Smallest difference that counts as an improvement.
        rule (str | None): ``greater`` or ``less``: what is better; None goes by the name.

    Raises:
        ValueError: If ``rule`` is neither, or the name does not tell.
    """

    priority = "LOW"  # like the schedulers before checkpoints, which hold what both decided

    def __init__(
        self,
        monitor: str,
        patience: int = 5,
        min_delta: float = 0.0,
        rule: str | None = None,
    ) -> None:
        rule = rule or rule_of(monitor)
        super().__init__(monitor, rule, min_delta, strict=True, patience=patience)

    def before_train(self, runner: PanopticRunner) -> None:
        """Look whether validation gives the metric.

        Args:
            runner (PanopticRunner): The runner.
        """
        if runner.val_loop is None:
            runner.logger.warning("early stopping does nothing: nothing is validated")
            return
        known = known_metrics(runner.val_loop.evaluator)
        if known is not None:
            find_metric(self.monitor, known)

    def after_val_epoch(
        self, runner: PanopticRunner, metrics: dict[str, float] | None = None
    ) -> None:
        """Decide whether to stop.

        Args:
            runner (PanopticRunner): The runner.
            metrics (dict | None): Results of the validation.
        """
        metrics = metrics or {}
        super().after_val_epoch(runner, {self.monitor: metrics[find_metric(self.monitor, metrics)]})

    def before_save_checkpoint(self, runner: PanopticRunner, checkpoint: dict[str, Any]) -> None:
        """Add the best value and the validations since.

        Args:
            runner (PanopticRunner): The runner.
            checkpoint (dict): Changed in place.
        """
        checkpoint["patience"] = {"best_score": self.best_score, "wait_count": self.wait_count}

    def after_load_checkpoint(self, runner: PanopticRunner, checkpoint: dict[str, Any]) -> None:
        """Go on with the values of a checkpoint that is resumed.

        Args:
            runner (PanopticRunner): The runner.
            checkpoint (dict): What was loaded.
        """
        if runner._resume and "patience" in checkpoint:
            self.best_score = checkpoint["patience"]["best_score"]
            self.wait_count = checkpoint["patience"]["wait_count"]
