"""Pictures of predictions during validation and testing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.fileio import get
from mmengine.hooks import Hook

from mmpanoptic.registry import HOOKS

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample

    from .runner import PanopticRunner


@HOOKS.register_module()
class PanopticVisualizationHook(Hook):
    """Draw predictions next to the ground truth.

    During validation every ``interval``-th batch gives a picture of its first image, which goes
    to the visualizer's backends. During testing every image is drawn: into ``out_dir`` as
    ``<name of the image>.jpg``, on the screen, or to the backends.

    Args:
        draw (bool): Whether to draw at all.
        interval (int): Batches between two pictures of the validation.
        out_dir (str | None): Folder for the pictures of the test.
        show (bool): Open a window for each image of the test.
        wait_time (float): Seconds the window stays; 0 waits for a key.
        score_thr (float): Things with a lower score are drawn as void.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        out_dir: str | None = None,
        show: bool = False,
        wait_time: float = 0.0,
        score_thr: float = 0.0,
    ) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        self.draw = draw
        self.interval = interval
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.show = show
        self.wait_time = wait_time
        self.score_thr = score_thr
        self._names: set[str] = set()

    def after_val_iter(
        self,
        runner: PanopticRunner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[DetDataSample] | None = None,
    ) -> None:
        """Draw the first image of every ``interval``-th batch.

        Args:
            runner (PanopticRunner): The runner.
            batch_idx (int): Number of the batch.
            data_batch: Unused.
            outputs (Sequence[DetDataSample] | None): Predictions.
        """
        if self.draw and outputs and batch_idx % self.interval == 0:
            name = f"val_{Path(outputs[0].img_path).stem}"
            self._draw(runner, name, outputs[0], step=runner.iter)

    def after_test_iter(
        self,
        runner: PanopticRunner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[DetDataSample] | None = None,
    ) -> None:
        """Draw every image.

        Args:
            runner (PanopticRunner): The runner.
            batch_idx (int): Number of the batch.
            data_batch: Unused.
            outputs (Sequence[DetDataSample] | None): Predictions.
        """
        if not self.draw:
            return
        for sample in outputs or ():
            name = self._unique_name(sample)
            out_file = None if self.out_dir is None else str(self.out_dir / f"{name}.jpg")
            self._draw(
                runner, name, sample, show=self.show, wait_time=self.wait_time, out_file=out_file
            )

    def _draw(
        self, runner: PanopticRunner, name: str, sample: DetDataSample, **options: Any
    ) -> None:
        from mmcv import imfrombytes

        image = imfrombytes(get(sample.img_path), channel_order="rgb")
        runner.visualizer.add_datasample(
            name, image, data_sample=sample, pred_score_thr=self.score_thr, **options
        )

    def _unique_name(self, sample: DetDataSample) -> str:
        """Name a picture after its image; images of one name in two folders get their ids too."""
        name = Path(sample.img_path).stem
        if name in self._names:
            name = f"{name}_{str(sample.img_id).replace('/', '_')}"
        self._names.add(name)
        return name
