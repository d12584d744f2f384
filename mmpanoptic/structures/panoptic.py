"""Panoptic maps inside mmdet's ``DetDataSample``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from mmengine.structures import PixelData
from torch import Tensor

MMDET_INSTANCE_OFFSET = 1000
"""mmdet packs ``label + 1000 * instance`` into one number."""


class SegmentInfo(TypedDict, total=False):
    """One segment of a panoptic map.

    Ground truth has ``id``, ``category_id``, ``label``, ``isthing``, ``iscrowd``, ``area`` and
    ``bbox`` in the units of the stored annotation (augmentation does not change them).
    Predictions have ``id``, ``label``, ``isthing``, ``score``, ``area`` and ``bbox``; the
    inferencer and the metric add ``category_id`` from the label table.
    """

    id: int
    category_id: int
    label: int
    isthing: bool
    iscrowd: int
    area: int
    bbox: list[float]
    score: float


def make_panoptic_data(
    index_map: np.ndarray | torch.Tensor, segments_info: Sequence[SegmentInfo]
) -> PixelData:
    """Wrap a panoptic map for ``gt_panoptic_seg`` or ``pred_panoptic_seg``.

    Args:
        index_map: Integer map ``(H, W)`` or ``(1, H, W)``: 0 is void, k is the k-th entry of
            ``segments_info``. Segments without pixels may be listed.
        segments_info: The segments in order.

    Returns:
        PixelData: ``index_map`` int32 ``(1, H, W)`` as data and ``segments_info`` as metainfo.
    """
    if isinstance(index_map, np.ndarray):
        index_map = torch.from_numpy(np.ascontiguousarray(index_map, dtype=np.int32))
    index_map = index_map.to(torch.int32)
    if index_map.ndim == 2:
        index_map = index_map[None]
    data = PixelData()
    # As metainfo of the constructor they would be copied deeply, which takes milliseconds.
    copies = [segment.copy() for segment in segments_info]
    data.set_field(copies, "segments_info", field_type="metainfo")
    data.index_map = index_map
    return data


def as_tensor_on(like: Tensor, values: Any, dtype: torch.dtype | None = None) -> Tensor:
    """Turn numbers into a tensor on another tensor's device; the host does not wait for a GPU.

    Args:
        like (Tensor): Gives the device and, without ``dtype``, the type.
        values (Any): Numbers, or nested lists of them.
        dtype (torch.dtype | None): Of the result.

    Returns:
        Tensor: The numbers. ``torch.tensor(values, device=...)`` would let the host wait until the
        GPU has done everything before.
    """
    made = torch.tensor(values, dtype=dtype or like.dtype)
    return made.to(like.device, non_blocking=True)


def index_lookup(data: PixelData, key: str, void: Any, dtype: torch.dtype) -> torch.Tensor:
    """Tabulate a field of the segments by index, so that ``table[index_map]`` paints it.

    Args:
        data: From :func:`make_panoptic_data`.
        key: Field of :class:`SegmentInfo`.
        void: Value of index 0.
        dtype: Type of the table.

    Returns:
        torch.Tensor: ``(S + 1,)`` on the map's device.
    """
    values = [void, *(segment[key] for segment in data.segments_info)]  # type: ignore[literal-required]
    return as_tensor_on(data.index_map, values, dtype)


def semantic_map(data: PixelData, ignore_label: int = 255) -> torch.Tensor:
    """Paint contiguous labels.

    Args:
        data: From :func:`make_panoptic_data`.
        ignore_label: Label of void pixels.

    Returns:
        torch.Tensor: int64 labels ``(1, H, W)``.
    """
    table = index_lookup(data, "label", ignore_label, torch.int64)
    # Faster than indexing, which takes 64-bit numbers only.
    index_map = data.index_map.to(torch.int32)
    return table.index_select(0, index_map.flatten()).view(index_map.shape)


def to_mmdet_panoptic(data: PixelData, num_classes: int) -> torch.Tensor:
    """Convert to mmdet's encoding, for tools that read ``pred_panoptic_seg.sem_seg``.

    Args:
        data: From :func:`make_panoptic_data`.
        num_classes: Number of classes, which is also mmdet's void label.

    Returns:
        torch.Tensor: int64 ``(1, H, W)``, ``label + 1000 * n`` with n = 1, 2, ... for things and
        0 for stuff.
    """
    codes, count = [num_classes], 0
    for segment in data.segments_info:
        count += bool(segment["isthing"])
        instance = count if segment["isthing"] else 0
        codes.append(segment["label"] + MMDET_INSTANCE_OFFSET * instance)
    table = torch.tensor(codes, dtype=torch.int64, device=data.index_map.device)
    return table[data.index_map.long()]
