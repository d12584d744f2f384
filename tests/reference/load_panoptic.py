"""The usual way to load a panoptic annotation: one pass over the image per segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np


def load_panoptic(
    data: bytes, segments_info: Sequence[Mapping[str, Any]]
) -> tuple[np.ndarray, np.ndarray]:
    """Decode a panoptic PNG and compare the whole map with every segment's id.

    Args:
        data: Content of the PNG.
        segments_info: With ``id`` and ``label``.

    Returns:
        tuple: int32 semantic map (255 = void) and int32 index map (0 = void, k = k-th segment),
        both ``(H, W)``.
    """
    color = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB).astype(np.int32)
    ids = color[..., 0] + 256 * color[..., 1] + 65536 * color[..., 2]
    semantic = np.full(ids.shape, 255, np.int32)
    index = np.zeros(ids.shape, np.int32)
    for k, segment in enumerate(segments_info, start=1):
        mask = ids == segment["id"]
        semantic[mask] = segment["label"]
        index[mask] = k
    return semantic, index
