"""Stop a run in time: at a loss that is not finite, on request, and where nothing improves."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import EarlyStoppingHook, Hook

from mmpanoptic.registry import HOOKS

from .checkpoint_hook import AtomicCheckpointHook, find_metric, known_metrics, rule_of

if TYPE_CHECKING:
    from .runner import PanopticRunner


class NonFiniteLossError(RuntimeError):
    """The loss is infinite or not a number."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop training when the loss is not finite, and name the images of the batch.

    It runs before weights are averaged (EMA) or saved. The total is read from the message hub,
    where mmengine's ``RuntimeInfoHook`` has put it as a number, so that a GPU is not waited for
    once more.
    """

    priority = "HIGH"

    def after_train_iter(
        self,
        runner: PanopticRunner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Check the loss.

        Args:
            runner (PanopticRunner): The runner.
            batch_idx (int): Number of the batch.
            data_batch: The batch as the data loader returned it.
            outputs (Mapping | None): The losses.

        Raises:
            NonFiniteLossError: If the total is infinite or not a number.
        """
        if not outputs or "loss" not in outputs:
            return
        logged = runner.message_hub.log_scalars.get("train/loss")
        total = float(outputs["loss"]) if logged is None else float(logged.current())
        if math.isfinite(total):
            return
        values = ", ".join(f"{name} {float(value):g}" for name, value in outputs.items())
        images = ", ".join(map(str, image_ids(data_batch))) or "unknown"
        raise NonFiniteLossError(
            f"the loss of iteration {runner.iter + 1} is not finite ({values}); images of the "
            f"batch: {images}. Look at their annotations (tools/analysis_tools/browse_dataset.py), "
            "lower the learning rate, lengthen the warm-up, or clip gradients; no checkpoint with "
            "these weights was written, so the run can go on with --resume"
        )


def image_ids(data_batch: Any) -> list[Any]:
    """List the image ids of a batch.

    Args:
        data_batch: Batch with ``data_samples``; a sample without ``img_id`` gives its path.

    Returns:
        list: Ids in the order of the batch; empty if the batch has no samples.
    """
    samples = data_batch.get("data_samples") if isinstance(data_batch, Mapping) else None
    if not isinstance(samples, Sequence):
        return []
    found = []
    for sample in samples:
        metainfo = getattr(sample, "metainfo", {})
        found.append(metainfo.get("img_id", metainfo.get("img_path", "?")))
    return found


@HOOKS.register_module()
class StopSignalHook(Hook):
    """On SIGTERM save a checkpoint after the current iteration and exit.

    A run that accumulates gradients goes on to the next step of the optimizer first: a checkpoint
    does not hold half a sum.

    Cluster schedulers send the signal before they end a job (Slurm: ``--signal=TERM@120``). The
    exit status 143 lets them queue it again, and ``--resume`` goes on exactly where it stopped. A
    signal during validation takes effect after the next training iteration.
    """

    priority = "LOWEST"  # after the checkpoint hook and the schedulers

    def __init__(self) -> None:
        self._received = False
        self._previous: Any = None

    def before_train(self, runner: PanopticRunner) -> None:
        """Catch the signal.

        Args:
            runner (PanopticRunner): The runner.
        """
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._note)

    def after_train(self, runner: PanopticRunner) -> None:
        """Give the signal back.

        Args:
            runner (PanopticRunner): The runner.
        """
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def after_train_iter(
        self,
        runner: PanopticRunner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Save and exit if any process has got the signal.

        Args:
            runner (PanopticRunner): The runner.
            batch_idx (int): Number of the batch.
            data_batch: Unused.
            outputs (Mapping | None): Unused.

        Raises:
            SystemExit: With status 143, if the signal came.
        """
        if not runner.optim_wrapper.should_update() or not self._any_received():
            return
        for hook in runner.hooks:
            if isinstance(hook, AtomicCheckpointHook):
                hook.save_interrupted(runner)
                runner.logger.warning(
                    f"SIGTERM: iteration {runner.iter + 1} is saved; go on with --resume"
                )
        raise SystemExit(128 + signal.SIGTERM)

    def _note(self, *_: Any) -> None:
        self._received = True

    def _any_received(self) -> bool:
        """Agree with the other processes, which the signal reaches at other moments."""
        if get_world_size() == 1:
            return self._received
        flag = torch.tensor(int(self._received))
        all_reduce(flag, op="max")
        return bool(flag)


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
        **kwargs: ``check_finite`` and ``stopping_threshold`` as in the original.

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
        **kwargs: Any,
    ) -> None:
        kwargs["strict"] = True
        super().__init__(monitor, rule or rule_of(monitor), min_delta, patience=patience, **kwargs)

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
