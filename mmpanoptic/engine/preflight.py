"""Look at the data for a second before a training or a test begins, and say what cannot work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from ..datasets import PanopticDataset
from ..datasets.data_errors import explain_missing_folder
from ..utils.format_errors import PanopticFormatError
from .argument_names import check_against_model, check_log_names
from .checkpoint_state import bare_model
from .random_state import isolated_random_state

SAMPLES = 3
"""Images of each dataset to look at: the first, one in the middle, the last."""


class PreflightHook(Hook):
    """Run the pipelines on a few images before anything is computed.

    A path that leads nowhere, an image that cannot be read or a pipeline that does not fit is then
    one line at once, not an error of a worker process after the model was built. A batch that is
    larger than the data and crops that are mostly padding are warnings.
    """

    priority = "HIGHEST"
    _first: int | None = None
    """Iteration that the run began with."""

    def before_run(self, runner: Runner) -> None:
        """Look at the data of the loops that will run.

        Args:
            runner (Runner): The runner.

        Raises:
            PanopticFormatError: If an image or annotation cannot be read.
            ConfigError: If the config names what the model does not have.
        """
        for note in check_against_model(runner.cfg, bare_model(runner.model)):
            runner.logger.warning(note)
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
            if not isinstance(loop, BaseLoop):
                continue
            is_training = loop is runner._train_loop
            with isolated_random_state():
                for dataset in _leaves(loop.dataloader.dataset):
                    _look_at(dataset, runner.logger.warning if is_training else None)
            if is_training:
                _compare_batch(loop.dataloader, runner.logger.warning)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Compare what the log is asked for with what the first iteration has logged.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Number of the batch.
            data_batch: The batch.

        Raises:
            ConfigError: If a name is nearly one that was logged.
        """
        if self._first is None:
            self._first = runner.iter
        if runner.iter != self._first + 1:
            return
        logged = [name.partition("/")[2] for name in runner.message_hub.log_scalars]
        asked = (runner.cfg.get("log_processor") or {}).get("custom_cfg") or ()
        for note in check_log_names(asked, logged):
            runner.logger.warning(note)


def _leaves(dataset: Any) -> Iterator[PanopticDataset]:
    """Walk through wrappers to panoptic datasets."""
    if isinstance(dataset, PanopticDataset):
        yield dataset
        return
    for inner in getattr(dataset, "datasets", [getattr(dataset, "dataset", None)]):
        if inner is not None:
            yield from _leaves(inner)


def _look_at(dataset: PanopticDataset, warn: Callable[[str], object] | None) -> None:
    """Run the pipeline on a few images; in a training compare what comes out with the crop."""
    last = len(dataset) - 1
    areas = []
    for position in sorted({last * part // (SAMPLES - 1) for part in range(SAMPLES)}):
        try:
            sample = dataset.pipeline(dataset.pipeline_input(position))
        except PanopticFormatError as error:
            if dataset.errors is not None:  # the run passes over it, and counts it then
                continue
            explain_missing_folder(error, dataset.data_prefix["seg"], dataset.ANN_FILE_HINT)
            where = f"below data_root {dataset.data_root!r}, see data_prefix=dict(img=...)"
            explain_missing_folder(error, dataset.data_prefix["img"], where)
            raise
        if sample is not None:
            inputs = sample["inputs"]  # several of test-time augmentation
            several = inputs if isinstance(inputs, list | tuple) else [inputs]
            areas += [one.shape[-2:] for one in several]
    crop = _crop_size(dataset)
    if warn is None or crop is None or not areas:
        return
    height, width = max(areas, key=lambda size: size[0] * size[1])
    if 2 * height * width < crop[0] * crop[1]:
        warn(
            f"images of {dataset.ann_file} come out of the pipeline with {height} x {width} pixels "
            f"or less, a window of {crop[0]} x {crop[1]} is mostly padding; take a smaller "
            "crop_size, or resize the images (short_edge) to more"
        )


def _crop_size(dataset: PanopticDataset) -> tuple[int, int] | None:
    for step in dataset.pipeline.transforms:
        size = getattr(getattr(step, "crop", step), "crop_size", None)
        if size is not None:
            return size[0], size[1]
    return None


def _compare_batch(loader: Any, warn: Callable[[str], object]) -> None:
    """Warn of batches that hold an image several times."""
    batch = (getattr(loader, "batch_size", None) or 0) * get_world_size()
    if batch > len(loader.dataset):
        warn(
            f"an iteration takes {batch} images, the training data have {len(loader.dataset)}: "
            "each is in a batch several times; take a smaller batch_size"
        )
