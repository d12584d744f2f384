"""Decoding of panoptic PNGs."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from mmpanoptic.utils.panoptic_png import read_panoptic_png
from tests.reference.panoptic_files import CASES, write_files

DESCRIPTION = "PNG files to maps of ids, as datasets, evaluators and converters read them."
BASELINE = "cv2.imread and the sum of the three channels."

__all__ = ["CASES"]


def make_inputs(size: str = "default", **case: int) -> dict[str, Any]:
    """Write PNG files."""
    files = write_files(size, **case)
    return {"files": files, "paths": sorted((files.folder / "gt").glob("*.png"))}


def baseline(inputs: dict[str, Any]) -> list[np.ndarray]:
    """Decode with OpenCV."""
    maps = []
    for path in inputs["paths"]:
        colors: Any = cv2.imread(str(path), cv2.IMREAD_COLOR)
        blue, green, red = cv2.split(colors.astype(np.int32))
        maps.append(red + 256 * green + 65536 * blue)
    return maps


def ours(inputs: dict[str, Any]) -> list[np.ndarray]:
    """Read as everything here does."""
    return [read_panoptic_png(path) for path in inputs["paths"]]


def check(expected: list[np.ndarray], got: list[np.ndarray]) -> None:
    """Compare every id."""
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_array_equal(one, other)
