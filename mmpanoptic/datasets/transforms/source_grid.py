"""Where the pixels of an augmented map come from, for masks that are decoded only at the end."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

RESIZE_BACKENDS = ("pillow", "cv2")


def nearest_indices(size: int, new_size: int, backend: str) -> np.ndarray:
    """List the pixel that nearest-neighbour resizing takes for each pixel of an axis.

    Nearest-neighbour resizing of an image takes whole rows and whole columns, so one list per
    axis describes it. The library itself is asked, by resizing a row of numbers.

    Args:
        size (int): Length of the axis.
        new_size (int): Length after resizing.
        backend (str): "pillow" or "cv2".

    Returns:
        np.ndarray: int64 ``(new_size,)``, values in ``[0, size)``.
    """
    numbers = np.arange(size, dtype=np.float32)[None]
    if backend == "pillow":
        row: Any = Image.fromarray(numbers).resize((new_size, 1), Image.Resampling.NEAREST)
    else:
        row = cv2.resize(numbers, (new_size, 1), interpolation=cv2.INTER_NEAREST)
    return np.asarray(row)[0].astype(np.int64)


class SourceGrid(NamedTuple):
    """Row and column of the original annotation for each row and column of the current map.

    Resizing with nearest interpolation, cropping, flipping and padding all choose rows and
    columns, so two short lists hold the whole geometry.

    Attributes:
        rows (np.ndarray): int64 ``(H,)``, -1 in the padding.
        columns (np.ndarray): int64 ``(W,)``, -1 in the padding.
        flip_direction (str | None): Last flip that the lists went through.
    """

    rows: np.ndarray
    columns: np.ndarray
    flip_direction: str | None = None

    @classmethod
    def identity(cls, height: int, width: int) -> SourceGrid:
        """Describe an annotation as it was loaded."""
        return cls(np.arange(height), np.arange(width))

    def select(self, rows: np.ndarray | slice, columns: np.ndarray | slice) -> SourceGrid:
        """Choose rows and columns of the current map."""
        return self._replace(rows=self.rows[rows], columns=self.columns[columns])

    def flip(self, direction: str) -> SourceGrid:
        """Mirror the current map, "horizontal", "vertical" or "diagonal" (both)."""
        rows = self.rows if direction == "horizontal" else self.rows[::-1]
        columns = self.columns if direction == "vertical" else self.columns[::-1]
        return SourceGrid(rows, columns, direction)

    def pad(self, height: int, width: int) -> SourceGrid:
        """Append rows and columns without a source, up to a size."""
        rows = np.pad(self.rows, (0, height - len(self.rows)), constant_values=-1)
        columns = np.pad(self.columns, (0, width - len(self.columns)), constant_values=-1)
        return self._replace(rows=rows, columns=columns)

    def gather(self, mask: np.ndarray) -> np.ndarray:
        """Bring a mask of the original annotation into the current geometry.

        Args:
            mask (np.ndarray): ``(H0, W0)``.

        Returns:
            np.ndarray: ``(H, W)`` of the same dtype, 0 in the padding.
        """
        # take() along columns first: on the smaller side in most augmentations, and its rows
        # are then copied whole.
        moved = np.take(np.take(mask, self.columns, axis=1), self.rows, axis=0)
        moved[self.rows < 0] = 0
        moved[:, self.columns < 0] = 0
        return moved


def update_grid(results: dict[str, Any], grid: SourceGrid | None) -> None:
    """Store the grid if the sample carries one (only samples with instance masks do)."""
    if grid is not None:
        results["source_grid"] = grid
