"""Resizing of image and index map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform

from mmpanoptic.registry import TRANSFORMS

from .pillow_resize import resize_image
from .source_grid import RESIZE_BACKENDS, nearest_indices, update_grid


def shortest_edge_size(
    height: int, width: int, short_edge: int, max_size: int | None
) -> tuple[int, int]:
    """Compute the size at which the short edge has a given length.

    Args:
        height (int): Height.
        width (int): Width.
        short_edge (int): Length of the short edge.
        max_size (int | None): Limit of the long edge, which goes before.

    Returns:
        tuple[int, int]: Height and width, rounded half up, at least 1.
    """
    scale = short_edge / min(height, width)
    if height < width:
        new_height, new_width = float(short_edge), scale * width
    else:
        new_height, new_width = scale * height, float(short_edge)
    longest = max(new_height, new_width)
    if max_size is not None and longest > max_size:
        new_height, new_width = new_height * (max_size / longest), new_width * (max_size / longest)
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))


def detectron_size(
    height: int, width: int, short_edge: int, max_size: int | None
) -> tuple[int, int]:
    """Compute the size as Detectron and maskrcnn-benchmark do, which truncate.

    Args:
        height (int): Height.
        width (int): Width.
        short_edge (int): Length of the short edge.
        max_size (int | None): Limit of the long edge; rounding can miss it by a pixel.

    Returns:
        tuple[int, int]: Height and width, at least 1; unchanged if the short edge has its length.
    """
    short, long = min(height, width), max(height, width)
    if max_size is not None and long / short * short_edge > max_size:
        short_edge = max(1, round(max_size * short / long))
    if short == short_edge:
        return height, width
    if width < height:
        return int(short_edge * height / width), short_edge
    return short_edge, int(short_edge * width / height)


SIZE_RULES = {"round": shortest_edge_size, "detectron": detectron_size}


def resize_sample(results: dict[str, Any], size: tuple[int, int], backend: str) -> None:
    """Resize the image (bilinear) and the index map (nearest).

    Args:
        results (dict): Changed in place: ``img``, ``gt_seg_map`` and ``source_grid`` if present,
            ``img_shape``, ``scale_factor`` (width, height; relative to the loaded image).
        size (tuple[int, int]): Height and width.
        backend (str): "pillow" (antialiased when shrinking) or "cv2".
    """
    height, width = results["img"].shape[:2]
    if size != (height, width):
        if backend == "pillow":
            results["img"] = resize_image(results["img"], size)
        else:
            results["img"] = mmcv.imresize(results["img"], size[::-1], backend=backend)
    resize_annotation(results, size, backend, (height, width))


def resize_annotation(
    results: dict[str, Any], size: tuple[int, int], backend: str, old_size: tuple[int, int]
) -> None:
    """Resize all but the image.

    Args:
        results (dict): Changed in place: ``gt_seg_map`` and ``source_grid`` if present,
            ``img_shape``, ``scale_factor``.
        size (tuple[int, int]): Height and width.
        backend (str): "pillow" or "cv2".
        old_size (tuple[int, int]): Height and width of the image before.
    """
    index_map = results.get("gt_seg_map")
    if index_map is not None and index_map.shape != size:
        rows = nearest_indices(index_map.shape[0], size[0], backend)
        columns = nearest_indices(index_map.shape[1], size[1], backend)
        results["gt_seg_map"] = np.take(np.take(index_map, columns, axis=1), rows, axis=0)
        grid = results.get("source_grid")
        update_grid(results, grid and grid.select(rows, columns))
    factor = results.get("scale_factor", (1.0, 1.0))
    results["scale_factor"] = (
        factor[0] * size[1] / old_size[1],
        factor[1] * size[0] / old_size[0],
    )
    results["img_shape"] = size


class _Resize(BaseTransform):
    """Choose a size, then resize image and index map to it."""

    def __init__(self, backend: str) -> None:
        if backend not in RESIZE_BACKENDS:
            raise ValueError(
                f"backend must be one of {', '.join(RESIZE_BACKENDS)}, got {backend!r}"
            )
        self.backend = backend

    def choose_size(self, height: int, width: int) -> tuple[int, int]:
        """Choose the size for an image of the given height and width."""
        raise NotImplementedError

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize the sample.

        Args:
            results (dict): With ``img``; ``gt_seg_map`` follows it if it is there.

        Returns:
            dict: ``results``, see :func:`resize_sample`.
        """
        resize_sample(results, self.choose_size(*results["img"].shape[:2]), self.backend)
        return results


@TRANSFORMS.register_module()
class ResizeShortestEdge(_Resize):
    """Bring the short edge to a length, chosen at random if there are several.

    Differences from the original (detectron2's ``ResizeShortestEdge``): none in the sizes. With
    the backend "pillow" image and label map have equal bits; "cv2" is faster and does not
    antialias.

    Args:
        short_edge (int | Sequence[int]): The length in pixels; of several, one is drawn
            uniformly.
        max_size (int | None): Limit of the long edge.
        backend (str): "pillow" or "cv2".
        size_rule (str): "round", or "detectron" for the sizes of Detectron and
            maskrcnn-benchmark, see :func:`detectron_size`.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
        self,
        short_edge: int | Sequence[int],
        max_size: int | None = None,
        backend: str = "pillow",
        size_rule: str = "round",
    ) -> None:
        super().__init__(backend)
        if size_rule not in SIZE_RULES:
            raise ValueError(f"size_rule must be one of {', '.join(SIZE_RULES)}, got {size_rule!r}")
        self.size_rule = SIZE_RULES[size_rule]
        self.short_edges = [short_edge] if isinstance(short_edge, int) else list(short_edge)
        if not self.short_edges or min(self.short_edges) < 1:
            raise ValueError(f"short_edge needs positive lengths in pixels, got {short_edge!r}")
        self.max_size = max_size

    def choose_size(self, height: int, width: int) -> tuple[int, int]:
        """Draw the short edge and apply the limit.

        Args:
            height (int): Current height.
            width (int): Current width.

        Returns:
            tuple[int, int]: Height and width.
        """
        short_edge = self.short_edges[0]
        if len(self.short_edges) > 1:
            short_edge = self.short_edges[np.random.randint(len(self.short_edges))]
        return self.size_rule(height, width, short_edge, self.max_size)


@TRANSFORMS.register_module()
class ResizeScaleJitter(_Resize):
    """Fit the image into a target size times a random factor (large scale jitter).

    Args:
        target_size (tuple[int, int]): Height and width that the image is fitted into, with its
            aspect ratio, at factor 1.
        ratio_range (tuple[float, float]): The factor is drawn uniformly from it.
        backend (str): "pillow" or "cv2".
    """

    def __init__(
        self,
        target_size: tuple[int, int],
        ratio_range: tuple[float, float] = (0.1, 2.0),
        backend: str = "pillow",
    ) -> None:
        super().__init__(backend)
        if not 0 < ratio_range[0] <= ratio_range[1]:
            raise ValueError(f"ratio_range must be positive and ascending, got {ratio_range}")
        self.target_size = target_size
        self.ratio_range = ratio_range

    def choose_size(self, height: int, width: int) -> tuple[int, int]:
        """Draw the factor and fit.

        Args:
            height (int): Current height.
            width (int): Current width.

        Returns:
            tuple[int, int]: Height and width.
        """
        ratio = np.random.uniform(*self.ratio_range)
        scale = ratio * min(self.target_size[0] / height, self.target_size[1] / width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
