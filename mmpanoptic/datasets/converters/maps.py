"""Maps of converters: sizes, segments, run-length codes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.structures import find_runs, segment_statistics
from mmpanoptic.structures.runs import Runs, lookup_sorted
from mmpanoptic.utils.format_errors import format_error
from mmpanoptic.utils.jobs import write_file
from mmpanoptic.utils.panoptic_png import encode_panoptic_png
from mmpanoptic.utils.png_bytes import RGB, RGBA, decode_pixels, read_header, read_png
from mmpanoptic.utils.segmentations import check_segmentation, decode


def read_two_channels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a PNG whose red is a class and whose green is the number of an instance.

    Args:
        path: The file.

    Returns:
        np.ndarray: uint8 ``(H, W, 2)``.

    Raises:
        PanopticFormatError: Of kind ``missing_file``, ``corrupt_png`` or ``bad_png_mode``.
    """
    data = read_png(path)
    header = read_header(data, path)
    if header.depth != 8 or header.color_type not in (RGB, RGBA):
        detail = f"expected an 8-bit RGB PNG with R = class, G = instance number, got {header}"
        raise format_error("bad_png_mode", detail, path)
    return decode_pixels(data, path)[..., :2]


def write_panoptic_png(path: Path, ids: np.ndarray) -> None:
    """Write segment ids ``(H, W)`` as a panoptic PNG, whole or not at all."""
    write_file(path, encode_panoptic_png(ids))


def describe_segments(ids: np.ndarray) -> list[dict[str, Any]]:
    """Describe every non-zero value of a map.

    Args:
        ids (np.ndarray): Integer map ``(H, W)``, 0 = void.

    Returns:
        list[dict]: ``dict(id, area, bbox)`` by ascending id; bbox is ``[x, y, w, h]``.
    """
    runs = find_runs(ids)
    values = np.unique(runs.value)
    values = values[values != 0]
    area, box = segment_statistics(lookup_sorted(values, runs.value), runs, len(values))
    return [
        {"id": int(value), "area": int(a), "bbox": [int(side) for side in b]}
        for value, a, b in zip(values, area, box, strict=True)
    ]


def relabel(
    ids: np.ndarray,
    keys: Sequence[int] | np.ndarray,
    values: Sequence[int] | np.ndarray,
    void: int,
) -> np.ndarray:
    """Replace every value of a map through a table.

    Args:
        ids (np.ndarray): Integer map ``(H, W)``.
        keys: Sorted unique values.
        values: What replaces each key.
        void: What replaces all other values.

    Returns:
        np.ndarray: int64 ``(H, W)``.
    """
    runs = find_runs(ids)
    table = np.array([*values, void], np.int64)  # position -1 is the last entry
    return runs.expand(table[lookup_sorted(np.asarray(keys, np.int64), runs.value)])


class MaskEncoder:
    """COCO run-length codes of all segments of a map, from one pass over it.

    Args:
        ids (np.ndarray): Integer map ``(H, W)``.
    """

    def __init__(self, ids: np.ndarray) -> None:
        self._size = [int(side) for side in ids.shape]
        # COCO's codes run down the columns: the rows of the transposed map.
        self._runs: Runs = find_runs(np.ascontiguousarray(ids.T))

    def encode(self, value: int | Sequence[int]) -> dict[str, Any]:
        """Encode the mask of one value, or of several together.

        Returns:
            dict: ``size`` ``[H, W]`` and text ``counts``, as pycocotools writes them.
        """
        from pycocotools import mask as coco_mask

        runs = self._runs
        chosen = np.isin(runs.value, value)
        edges = np.stack([runs.start[chosen], (runs.start + runs.length)[chosen]], 1).ravel()
        # A stretch that goes on in the next column is one run of COCO's code.
        meets = np.flatnonzero(edges[1:-1:2] == edges[2::2])
        edges = np.delete(edges, np.concatenate([2 * meets + 1, 2 * meets + 2]))
        counts = np.diff(edges, prepend=0)
        rest = self._size[0] * self._size[1] - (int(edges[-1]) if len(edges) else 0)
        if rest or not len(edges):
            counts = np.append(counts, rest)
        height, width = self._size
        code = coco_mask.frPyObjects(
            {"size": self._size, "counts": [int(count) for count in counts]}, height, width
        )
        return {"size": self._size, "counts": code["counts"].decode("ascii")}


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Check and draw a COCO segmentation; :mod:`mmpanoptic.utils.segmentations` does both apart.

    Args:
        segmentation: Polygons or a run-length code.
        height: Of the image.
        width: Of the image.

    Returns:
        np.ndarray: bool ``(H, W)``.

    Raises:
        ValueError: If it is none of these, a code of another size, or far outside the image.
    """
    return decode(check_segmentation(segmentation, height, width), height, width).astype(bool)
