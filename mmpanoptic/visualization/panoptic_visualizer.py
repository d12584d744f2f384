"""mmengine visualizer for panoptic maps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from mmengine.dist import master_only
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer

from mmpanoptic.registry import VISUALIZERS, refuse_placeholders
from mmpanoptic.structures import LabelTable, find_runs, lookup_sorted
from mmpanoptic.utils import atomic_write
from mmpanoptic.utils.panoptic_png import read_panoptic_png

from .difference import DIFFERENCE_TITLE, difference_map, draw_difference
from .draw import DrawStyle, draw_panoptic, enlarge
from .text import place_side_by_side

Panoptic = tuple[np.ndarray, list[dict[str, Any]]]


@VISUALIZERS.register_module()
class PanopticVisualizer(Visualizer):
    """Draw ground truth beside prediction, for any label table.

    Differences from the original (``mmdet.visualization.DetLocalVisualizer``): draws with OpenCV;
    Matplotlib is imported only when an inherited ``draw_*`` method is used. The label table of
    the dataset is required, and nothing is read off class positions.

    Args:
        name (str): Name of the instance.
        vis_backends (list | None): As in mmengine.
        save_dir (str | None): As in mmengine.
        alpha (float): Weight of the fill of things in ``[0, 1]``.
        palette (str): ``classes``, the dataset's colours, or ``colorblind``.
        min_side (int): Smaller images are enlarged by a whole factor to about this size of the
            shorter side, so that names can be read; 0 keeps every size.
    """

    ax_save: Any

    def __init__(
        self,
        name: str = "visualizer",
        vis_backends: list[Any] | None = None,
        save_dir: str | None = None,
        alpha: float = DrawStyle.alpha,
        min_side: int = 384,
        palette: str = DrawStyle.palette,
    ) -> None:
        # mmengine's registry builds it, which knows no placeholders.
        refuse_placeholders(type(self).__name__, vis_backends)
        super().__init__(name=name, vis_backends=vis_backends, save_dir=save_dir)
        self.style = DrawStyle(alpha=alpha, palette=palette)
        self.min_side = min_side

    def _initialize_fig(self, fig_cfg: dict[str, Any]) -> tuple[Any, Any, Any]:
        """Put the Matplotlib figure off until :meth:`set_image` needs it."""
        return None, _NoFigure(), None

    def set_image(self, image: np.ndarray) -> None:
        """Prepare mmengine's ``draw_*`` methods, which draw with Matplotlib."""
        if self.ax_save is None:
            canvas, figure, axes = super()._initialize_fig(self.fig_save_cfg)
            self.fig_save_canvas, self.fig_save, self.ax_save = canvas, figure, axes
            self.dpi = figure.get_dpi()
        super().set_image(image)

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: BaseDataElement | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        pred_score_thr: float = 0.0,
        step: int = 0,
    ) -> None:
        """Draw a sample and show it, write it or hand it to the backends.

        Args:
            name (str): Name for the backends and the window.
            image (np.ndarray): uint8 RGB ``(H, W, 3)``.
            data_sample (DetDataSample | None): With ``gt_panoptic_seg``, or ``seg_map_path`` and
                ``segments_info`` in its metainfo, and with ``pred_panoptic_seg``.
            draw_gt (bool): Draw the ground truth, if there is one.
            draw_pred (bool): Draw the prediction, if there is one.
            show (bool): Open a window.
            wait_time (float): Seconds the window stays, 0 waits for a key.
            out_file (str | None): Write the picture here instead of handing it to the backends.
            pred_score_thr (float): Things with a lower score are drawn as void.
            step (int): Step for the backends.
        """
        picture = self.draw_sample(image, data_sample, draw_gt, draw_pred, pred_score_thr)
        if show:
            self.show(picture, win_name=name, wait_time=wait_time, backend="cv2")
        if out_file is not None:
            write_picture(out_file, picture)
        elif not show:
            self.add_image(name, picture, step)

    def draw_sample(
        self,
        image: np.ndarray,
        data_sample: BaseDataElement | None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        pred_score_thr: float = 0.0,
        draw_image: bool = False,
    ) -> np.ndarray:
        """Draw a sample without writing it; arguments as in :meth:`add_datasample`.

        Args:
            image (np.ndarray): As there.
            data_sample (DetDataSample | None): As there.
            draw_gt (bool): As there.
            draw_pred (bool): As there.
            pred_score_thr (float): As there.
            draw_image (bool): Put the bare image first; it also stands before ground truth and
                prediction together, and their difference behind them.

        Returns:
            np.ndarray: uint8 RGB picture: what was asked for and is there, side by side (four
            wide pictures in two rows); the image if nothing is.
        """
        bare = enlarge(image, np.zeros(image.shape[:2], np.uint8), self.min_side)[0]
        truth = ground_truth_of(data_sample, image.shape[:2]) if draw_gt else None
        found = prediction_of(data_sample, pred_score_thr) if draw_pred else None
        panels = [("image", bare)] if draw_image or (truth and found) else []
        if truth is not None:
            panels.append(("ground truth", self.draw_map(image, *truth)))
        if found is not None:
            panels.append(("prediction", self.draw_map(image, *found)))
        if truth is not None and found is not None:
            large = enlarge(image, difference_map(*truth, *found), self.min_side)
            panels.append((DIFFERENCE_TITLE, draw_difference(*large)))
        if not panels:
            return bare
        columns = 2 if len(panels) == 4 and image.shape[1] > 1.2 * image.shape[0] else 0
        return panels[0][1] if len(panels) == 1 else place_side_by_side(panels, columns=columns)

    def draw_map(
        self, image: np.ndarray, index_map: np.ndarray, segments_info: Sequence[Mapping[str, Any]]
    ) -> np.ndarray:
        """Draw one panoptic map over its image, enlarged if it is small.

        Raises:
            ValueError: If the visualizer has no ``dataset_meta``.
        """
        if not self.dataset_meta:
            raise ValueError(
                "the visualizer has no dataset_meta; set visualizer.dataset_meta = "
                "dataset.metainfo (or a checkpoint's meta['dataset_meta']) before drawing"
            )
        table = LabelTable.from_metainfo(self.dataset_meta)
        image, index_map = enlarge(image, index_map, self.min_side)
        return draw_panoptic(image, index_map, segments_info, table, self.style)


class _NoFigure:
    """Stand for the figure whose resolution mmengine asks for when it is made."""

    def get_dpi(self) -> float:
        """Return Matplotlib's default."""
        return 100.0


def write_picture(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Write a uint8 RGB picture; the suffix chooses the format.

    Raises:
        ValueError: If OpenCV cannot write this format.
    """
    suffix = os.path.splitext(path)[1]
    if not suffix or not cv2.haveImageWriter(f"x{suffix}"):
        raise ValueError(f"cannot write {path}: unknown image format, use .png or .jpg")
    data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    with atomic_write(path) as temporary:
        temporary.write_bytes(data.tobytes())


def prediction_of(
    data_sample: BaseDataElement | None, score_threshold: float = 0.0
) -> Panoptic | None:
    """Take the predicted map out of a sample.

    Args:
        data_sample: With ``pred_panoptic_seg``.
        score_threshold (float): Things with a lower score become void.

    Returns:
        tuple | None: Index map ``(H, W)`` and its segments; None if there is no prediction.
    """
    if data_sample is None or "pred_panoptic_seg" not in data_sample:
        return None
    data = data_sample.pred_panoptic_seg
    index_map = data.index_map[0].cpu().numpy()
    kept = [
        k
        if not segment["isthing"] or segment.get("score") is None
        else k * (segment["score"] >= score_threshold)
        for k, segment in enumerate(data.segments_info, start=1)
    ]
    return np.array([0, *kept], np.int32)[index_map], list(data.segments_info)


def ground_truth_of(data_sample: BaseDataElement | None, shape: tuple[int, int]) -> Panoptic | None:
    """Take the annotated map out of a sample, or read the PNG that it names.

    Args:
        data_sample: With ``gt_panoptic_seg``, or ``seg_map_path`` and ``segments_info``.
        shape (tuple[int, int]): Height and width of the image that is drawn on. Tests keep the
            image's own size, while ``gt_panoptic_seg`` has the size of the network's input: the
            map of the right size is taken.

    Returns:
        tuple | None: Index map ``(H, W)`` and its segments; None if the sample has none.
    """
    if data_sample is None:
        return None
    if "gt_panoptic_seg" in data_sample:
        data = data_sample.gt_panoptic_seg
        if tuple(data.index_map.shape[-2:]) == tuple(shape):
            return data.index_map[0].cpu().numpy(), list(data.segments_info)
    path, segments = data_sample.get("seg_map_path"), data_sample.get("segments_info")
    if path is None or segments is None:
        return None
    return index_of_ids(read_panoptic_png(path), segments), list(segments)


def index_of_ids(ids: np.ndarray, segments_info: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Turn segment ids into positions: k for the k-th segment, 0 for void and unknown ids.

    Args:
        ids (np.ndarray): Integer ``(H, W)``.
        segments_info: Segments with ``id``.

    Returns:
        np.ndarray: int32 ``(H, W)``.
    """
    known = np.array([segment["id"] for segment in segments_info], np.int64)
    order = np.argsort(known)
    runs = find_runs(ids)
    found = lookup_sorted(known[order], runs.value)
    index = np.append(order + 1, 0)[found]  # -1, not found, takes the last entry
    return runs.expand(index.astype(np.int32))
