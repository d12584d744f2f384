"""Training loops that a restart does not change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmengine.dist import get_world_size
from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch.utils.data import DataLoader

from mmpanoptic.registry import LOOPS

from .batches import (
    DataPosition,
    batch_size_of,
    endless_batches,
    endless_error,
    epoch_batches,
    refuse_endless,
    samples_per_process,
)
from .stop_hooks import StopSignalHook, ValidationStopped

if TYPE_CHECKING:
    from torch import nn

    from .runner import PanopticRunner


class _ExactResume:
    """What both loops share: where in the data the run stands, and validation without a trace."""

    runner: PanopticRunner
    dataloader: DataLoader
    _iter: int
    _epoch: int
    _origin = (0, 0)
    """Iteration and samples per process from which the position is counted."""
    _validated = True
    """Whether the last validation that was due before the start has been run."""

    def data_position(self, epoch: int, iteration: int) -> DataPosition:
        """Tell where the run stands after ``iteration`` iterations.

        Args:
            epoch (int): Finished epochs, as the checkpoint stores them.
            iteration (int): Finished iterations.

        Returns:
            DataPosition: To be stored in the checkpoint.
        """
        start, samples = self._origin
        if epoch > self._epoch:  # a checkpoint between two epochs
            samples = 0
        else:
            samples += (iteration - start) * batch_size_of(self.dataloader)
        return {"samples": samples, "world_size": get_world_size()}

    def resume_data(self, position: DataPosition | None, validated: bool) -> None:
        """Start training behind the samples that a checkpoint counts.

        Args:
            position (DataPosition | None): From the checkpoint. Without one (a checkpoint of
                mmengine) it follows from the number of iterations.
            validated (bool): Whether the checkpoint is younger than the validation that was due
                at its iteration.
        """
        self._validated = validated
        if position is None:
            samples = self._iterations_before() * batch_size_of(self.dataloader)
        else:
            samples = samples_per_process(position)
        self._origin = (self._iter, samples)

    def _iterations_before(self) -> int:
        return self._iter

    def _discard(self, batches: Any, num: int) -> None:
        """Throw batches away that were already used."""
        if num:
            self.runner.logger.warning(
                f"Reading {num} batches again to get back to where the run stopped; the samplers "
                "SeededSampler and InfiniteSeededSampler (without a batch_sampler) skip them"
            )
        for _ in range(num):
            next(batches)

    def _validate(self, progress: int, is_last: bool) -> None:
        """Run the validation loop if it is due.

        Args:
            progress (int): Finished epochs or iterations, whichever the loop counts.
            is_last (bool): Whether training is over.
        """
        due = progress % self.val_interval == 0 or is_last  # type: ignore[attr-defined]
        if self.runner.val_loop is None or progress < self.val_begin or not due:  # type: ignore[attr-defined]
            return
        try:
            with self.runner.untraced_random_state():
                self.runner.val_loop.run()
        except ValidationStopped:
            next(h for h in self.runner.hooks if isinstance(h, StopSignalHook)).leave_validation(
                self.runner
            )
        self.runner.note_validation(self._iter)

    def _repeat_validation(self, progress: int, is_last: bool) -> None:
        """Run the validation that was due when the checkpoint was written, if a kill cut it.

        A checkpoint is written before the validation of its iteration. Where a schedule or the end
        of the training depends on the metrics, it is repeated in any case: the checkpoint does not
        hold what they changed.

        Args:
            progress (int): Finished epochs or iterations, whichever the loop counts.
            is_last (bool): Whether training is over.
        """
        done = self.runner.has_validated(self._iter)
        if self._validated or not self._iter:
            return
        if not done or _listens_to_validation(self.runner):
            self._decide_current_val_interval()  # type: ignore[attr-defined]
            self._validate(progress, is_last)


def _listens_to_validation(runner: PanopticRunner) -> bool:
    """Tell whether a schedule or the end of the training depends on metrics."""
    groups = runner.param_schedulers or []
    lists = groups.values() if isinstance(groups, dict) else [groups]
    schedulers = [scheduler for group in lists for scheduler in group]
    return any(getattr(scheduler, "need_val_args", False) for scheduler in schedulers) or any(
        isinstance(hook, EarlyStoppingHook) for hook in runner.hooks
    )


@LOOPS.register_module()
class EpochTrainLoop(_ExactResume, EpochBasedTrainLoop):
    """Loop over epochs that can be resumed anywhere, also inside an epoch.

    Differences from the original (``mmengine.runner.EpochBasedTrainLoop``): a checkpoint taken
    inside an epoch goes on with the rest of the epoch, not with its beginning; the random
    generators go on as if there had been no interruption; validation leaves them untouched.

    Args:
        runner (PanopticRunner): The runner.
        dataloader (DataLoader | dict): The training data.
        max_epochs (int): Number of epochs.
        val_begin (int): First epoch after which to validate.
        val_interval (int): Epochs between two validations.
        dynamic_intervals (Sequence | None): ``(epoch, val_interval)`` pairs, each valid from
            that epoch on.

    Raises:
        ConfigError: If the sampler of the data has no end.
    """

    def __init__(self, runner: PanopticRunner, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, *args, **kwargs)
        refuse_endless(self.dataloader)

    def run(self) -> nn.Module:
        """Train.

        Returns:
            nn.Module: The trained model.
        """
        self.runner.call_hook("before_train")
        if self._origin[1] == 0:
            self.runner.resume_random_state()
            self._repeat_validation(self._epoch, self._epoch == self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate(self._epoch, self._epoch == self._max_epochs)
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Train for one epoch, or for the rest of it after a resume."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        samples = self._origin[1]
        batches, discard = epoch_batches(self.dataloader, self._epoch, samples)
        self._discard(batches, discard)
        self.runner.resume_random_state()
        for index, batch in enumerate(batches, start=samples // batch_size_of(self.dataloader)):
            if index >= len(self.dataloader):  # a sampler of another package
                raise endless_error(self.dataloader.sampler)
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1
        self._origin = (self._iter, 0)

    def _iterations_before(self) -> int:
        return max(0, self._iter - self._epoch * len(self.dataloader))


@LOOPS.register_module()
class IterTrainLoop(_ExactResume, IterBasedTrainLoop):
    """Loop over iterations that can be resumed anywhere.

    Differences from the original (``mmengine.runner.IterBasedTrainLoop``): a resumed run goes to
    its place in the data without reading what lies before; the random generators go on as if
    there had been no interruption; validation leaves them untouched; worker processes start when
    training starts.

    Args:
        runner (PanopticRunner): The runner.
        dataloader (DataLoader | dict): The training data.
        max_iters (int): Number of iterations.
        val_begin (int): First iteration after which to validate.
        val_interval (int): Iterations between two validations.
        dynamic_intervals (Sequence | None): ``(iteration, val_interval)`` pairs, each valid from
            that iteration on.
    """

    def __init__(
        self,
        runner: PanopticRunner,
        dataloader: DataLoader | dict[str, Any],
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        # The original's constructor would start the worker processes at the wrong place.
        BaseLoop.__init__(self, runner, dataloader)
        if int(max_iters) != max_iters:
            raise ValueError(f"max_iters must be a whole number, got {max_iters!r}")
        self._max_iters = int(max_iters)
        self._max_epochs = 1
        self._epoch = 0
        self._iter = 0
        self.val_begin = val_begin
        self.val_interval = val_interval
        self.stop_training = False
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(
            val_interval, dynamic_intervals
        )
        runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, "metainfo", None)

    def run(self) -> nn.Module:
        """Train.

        Returns:
            nn.Module: The trained model.
        """
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        batches, discard = endless_batches(self.dataloader, self._origin[1])
        self._discard(batches, discard)
        self.runner.resume_random_state()
        self._repeat_validation(self._iter, self._iter == self._max_iters)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches))
            self._decide_current_val_interval()
            self._validate(self._iter, self._iter == self._max_iters)
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model
