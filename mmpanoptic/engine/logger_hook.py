"""Losses, rates and metrics in the log, written by one process."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import LoggerHook
from mmengine.runner import Runner

from mmpanoptic.registry import HOOKS
from mmpanoptic.utils.files import write_json


@HOOKS.register_module()
class MainProcessLoggerHook(LoggerHook):
    """Log a run; write the metrics of a test as ``TIMESTAMP.json``, once and whole.

    Differences from the original:
        mmengine's hook writes that file from every process, each with its own times: two that
        write at once leave one's text with the end of the other's.
    """

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the metrics of a test and write them to the run's log folder.

        Args:
            runner (Runner): The runner.
            metrics (dict[str, float] | None): Not used: the log processor has them.
        """
        tag, line = runner.log_processor.get_log_after_epoch(
            runner, len(runner.test_dataloader), "test", with_non_scalar=True
        )
        runner.logger.info(line)
        if is_main_process():
            write_json(Path(runner.log_dir) / f"{runner.timestamp}.json", self._process_tags(tag))
