"""Summary of the samples that a training run had to leave out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmpanoptic.registry import HOOKS


@HOOKS.register_module()
class DataErrorSummaryHook(Hook):
    """Log which samples could not be loaded, for datasets with ``on_error="skip"``.

    Counts of worker processes and of all ranks are added up. The summary comes at the end of
    every epoch; in loops without epochs after every ``interval`` iterations and at the end.
    Nothing is logged while nothing was skipped.

    Args:
        interval (int): Iterations between summaries in loops without epochs.
        max_files (int): Longest list of files to spell out.
    """

    priority = "BELOW_NORMAL"

    def __init__(self, interval: int = 1000, max_files: int = 10) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        self.interval = interval
        self.max_files = max_files
        self._reported: dict[int, int] = {}

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the summary of the epoch (of the whole run in loops without epochs).

        Args:
            runner (Runner): The runner.
        """
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._summarise(runner, f"epoch {runner.epoch + 1}")
        else:
            self._summarise(runner, f"iteration {runner.iter}")

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Write the summary every ``interval`` iterations of a loop without epochs.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Number of the iteration.
            data_batch (Any): Not used.
            outputs (Any): Not used.
        """
        epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if not epochs and self.every_n_train_iters(runner, self.interval):
            self._summarise(runner, f"iteration {runner.iter + 1}")

    def _summarise(self, runner: Runner, when: str) -> None:
        for position, dataset in enumerate(_leaves(runner.train_loop.dataloader.dataset)):
            errors = getattr(dataset, "errors", None)
            if errors is None:
                continue
            draws, kinds = errors.draws, errors.kinds
            dist.all_reduce(draws, "sum")
            dist.all_reduce(kinds, "max")
            total = int(draws.sum())
            new = total - self._reported.get(position, 0)
            self._reported[position] = total
            if new:
                text = self._text(dataset, draws, errors.names(kinds))
                runner.logger.log(
                    logging.WARNING, f"{when}: {new} draws skipped ({total} so far): {text}"
                )

    def _text(self, dataset: Any, draws: torch.Tensor, names: list[str | None]) -> str:
        failed = draws.nonzero()[:, 0].tolist()
        lines = [f"{len(failed)} of {len(draws)} samples of {dataset.ann_file} cannot be loaded:"]
        lines += [
            f"  {dataset.image_path(index)}: {names[index]}, drawn {int(draws[index])} times"
            for index in failed[: self.max_files]
        ]
        if len(failed) > self.max_files:
            lines.append(f"  ... and {len(failed) - self.max_files} more")
        return "\n".join(lines)


def _leaves(dataset: Any) -> Iterator[Any]:
    """Walk through wrappers (repeat, concatenate, balance) to the datasets inside."""
    inner = getattr(dataset, "datasets", None)
    if inner is None and hasattr(dataset, "dataset"):
        inner = [dataset.dataset]
    if inner is None:
        yield dataset
        return
    for part in inner:
        yield from _leaves(part)
