"""Pictures of where a prediction differs from the ground truth, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

DIFFERENCES = {
    "right": (0, 0, 0),
    "wrong class": (213, 94, 0),
    "wrong segment": (240, 228, 66),
    "left void": (0, 114, 178),
}
"""Colour (RGB) by what a pixel may be; what is right shows the image.

A pixel of the right class is in the wrong segment if its two segments are no match (IoU <= 0.5)."""
DIFFERENCE_TITLE = "orange: class, yellow: segment, blue: void"
_ALPHA = 0.65


def difference_map(
    truth: np.ndarray,
    truth_info: Sequence[Mapping[str, Any]],
    found: np.ndarray,
    found_info: Sequence[Mapping[str, Any]],
) -> np.ndarray:
    """Tell for each pixel what is wrong with it.

    Args:
        truth (np.ndarray): Integer ``(H, W)``; 0 is void, k the k-th of ``truth_info``.
        truth_info: Segments with ``label`` and optionally ``iscrowd``.
        found (np.ndarray): The prediction, likewise.
        found_info: Its segments.

    Returns:
        np.ndarray: uint8 ``(H, W)``, positions in :data:`DIFFERENCES`. Void pixels of the ground
        truth are right; in a crowd the class alone counts.
    """
    rows, columns = len(truth_info) + 1, len(found_info) + 1
    pair = truth.astype(np.int64) * columns + found
    common = np.bincount(pair.ravel(), minlength=rows * columns).reshape(rows, columns)
    labels = [np.array([-1, *(s["label"] for s in info)]) for info in (truth_info, found_info)]
    crowd = np.array([False, *(bool(s.get("iscrowd")) for s in truth_info)])
    union = common.sum(1)[:, None] + common.sum(0) - common[:1] - common
    kind = np.where(2 * common > union, 0, 2)
    kind[crowd] = 0
    kind[labels[0][:, None] != labels[1]] = 1
    kind[:, 0] = 3
    kind[0] = 0
    return kind.astype(np.uint8).ravel()[pair]


def draw_difference(image: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Colour what is wrong, over a grey image.

    Args:
        image (np.ndarray): uint8 RGB ``(H, W, 3)``.
        difference (np.ndarray): From :func:`difference_map`.

    Returns:
        np.ndarray: New uint8 RGB picture ``(H, W, 3)``.
    """
    if not image.size:
        return image.copy()
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    colors = np.array(list(DIFFERENCES.values()), np.uint8)[difference]
    picture = cv2.addWeighted(colors, _ALPHA, grey, 1 - _ALPHA, 0)
    np.copyto(picture, grey, where=(difference == 0)[..., None])
    return picture
