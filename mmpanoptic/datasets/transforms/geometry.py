"""Flipping, cropping and padding of image and index map."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, RandomFlip

from mmpanoptic.registry import TRANSFORMS

from .foreign import without_fill
from .source_grid import update_grid


@TRANSFORMS.register_module()
class PanopticRandomFlip(RandomFlip):
    """Flip image, index map and instances.

    mmcv's ``RandomFlip`` does the same for samples without instance annotations; the name is
    another one because names here must not hide mmcv's. Arguments: see ``mmcv.RandomFlip``.
    """

    def _flip(self, results: dict[str, Any]) -> None:
        super()._flip(results)
        grid = results.get("source_grid")
        update_grid(results, grid and grid.flip(results["flip_direction"]))


def crop_sample(results: dict[str, Any], top: int, left: int, height: int, width: int) -> None:
    """Cut a window out of the sample.

    Args:
        results (dict): Changed in place: ``img``, ``gt_seg_map`` and ``source_grid`` if present,
            ``img_shape``.
        top (int): First row.
        left (int): First column.
        height (int): Rows.
        width (int): Columns.
    """
    rows, columns = slice(top, top + height), slice(left, left + width)
    results["img"] = results["img"][rows, columns]
    if results.get("gt_seg_map") is not None:
        results["gt_seg_map"] = results["gt_seg_map"][rows, columns]
        grid = results.get("source_grid")
        update_grid(results, grid and grid.select(rows, columns))
    results["img_shape"] = results["img"].shape[:2]


@TRANSFORMS.register_module()
class RandomCrop(BaseTransform):
    """Cut a window of fixed size at a random place.

    An image that is smaller than the window in a direction stays whole in that direction (and is
    padded when batches are made).

    Args:
        crop_size (tuple[int, int]): Height and width in pixels.
        category_max_ratio (float): Draw again, up to ten times, while one class fills at least
            this share of the window's labelled pixels or only one class is in it; 1.0 switches
            the limit off.
    """

    MAX_TRIES = 10

    def __init__(self, crop_size: tuple[int, int], category_max_ratio: float = 1.0) -> None:
        if len(crop_size) != 2 or min(crop_size) < 1:
            raise ValueError(f"crop_size needs height and width in pixels, got {crop_size!r}")
        if not 0 < category_max_ratio <= 1:
            raise ValueError(f"category_max_ratio must lie in (0, 1], got {category_max_ratio}")
        self.crop_size = tuple(crop_size)
        self.category_max_ratio = category_max_ratio

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop the sample.

        Args:
            results (dict): With ``img``; ``gt_seg_map`` follows it if it is there.

        Returns:
            dict: ``results``, see :func:`crop_sample`.
        """
        crop_sample(results, *self.choose_window(results))
        return results

    def choose_window(self, results: dict[str, Any]) -> tuple[int, int, int, int]:
        """Draw the window.

        Args:
            results (dict): With ``img`` (its shape counts) and, for the limit, ``gt_seg_map``.

        Returns:
            tuple[int, int, int, int]: Top, left, height and width in pixels.
        """
        size = np.minimum(self.crop_size, results["img"].shape[:2])
        limited = self.category_max_ratio < 1 and results.get("gt_seg_map") is not None
        for _ in range(self.MAX_TRIES if limited else 1):
            top, left = self._draw(results["img"].shape[:2], size)
            if not limited or self._is_mixed(results, top, left, size):
                break
        return top, left, int(size[0]), int(size[1])

    @staticmethod
    def _draw(shape: tuple[int, int], size: np.ndarray) -> tuple[int, int]:
        top = np.random.randint(shape[0] - size[0] + 1)
        left = np.random.randint(shape[1] - size[1] + 1)
        return int(top), int(left)

    def _is_mixed(self, results: dict[str, Any], top: int, left: int, size: np.ndarray) -> bool:
        """Tell whether no class dominates the window."""
        window = results["gt_seg_map"][top : top + size[0], left : left + size[1]]
        window = without_fill(window)
        segments = results["segments_info"]
        per_segment = np.bincount(window.ravel(), minlength=len(segments) + 1)[1:]
        labels = np.array([segment["label"] for segment in segments], np.int64)
        pixels = np.bincount(labels, weights=per_segment)
        if np.count_nonzero(pixels) < 2:
            return False
        return bool(pixels.max() < self.category_max_ratio * pixels.sum())


@TRANSFORMS.register_module()
class PanopticPad(BaseTransform):
    """Pad image and index map (with void) on the right and at the bottom.

    Batches are padded by the data preprocessor; this is for pipelines that need one fixed size.
    ``img_shape`` keeps the size of the content, ``pad_shape`` tells the size with padding.

    Args:
        size (tuple[int, int] | None): Smallest height and width.
        divisor (int): Height and width become multiples of it.
        value (tuple[int, int, int]): BGR colour of the image's padding.
    """

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        divisor: int = 1,
        value: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        if divisor < 1:
            raise ValueError(f"divisor must be at least 1, got {divisor}")
        self.size = size or (1, 1)
        self.divisor = divisor
        self.value = value

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pad the sample.

        Args:
            results (dict): With ``img``; ``gt_seg_map`` follows it if it is there.

        Returns:
            dict: ``results`` with ``pad_shape``.
        """
        old = results["img"].shape[:2]
        height, width = (
            -(-max(length, least) // self.divisor) * self.divisor
            for length, least in zip(old, self.size, strict=True)
        )
        padded = np.empty((height, width, 3), np.uint8)
        padded[...] = self.value
        padded[: old[0], : old[1]] = results["img"]
        results["img"] = padded
        index_map = results.get("gt_seg_map")
        if index_map is not None:
            results["gt_seg_map"] = np.pad(index_map, ((0, height - old[0]), (0, width - old[1])))
            grid = results.get("source_grid")
            update_grid(results, grid and grid.pad(height, width))
        results["pad_shape"] = (height, width)
        return results
