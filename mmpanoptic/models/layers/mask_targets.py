"""The panoptic ground truth of a batch as sets of masks, which mask transformers learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmpanoptic.structures import as_tensor_on


def collate_masks(
    batch_data_samples: Sequence[Any], dtype: torch.dtype = torch.float32
) -> tuple[list[Tensor], list[Tensor]]:
    """Make one mask of each thing and of each stuff class of an image.

    Crowds become no mask, nor do segments that a crop has left without pixels.

    Args:
        batch_data_samples (Sequence[DetDataSample]): With ``gt_panoptic_seg`` (see
            :func:`mmpanoptic.structures.make_panoptic_data`).
        dtype (torch.dtype): Of the masks.

    Returns:
        tuple: Of each image its masks ``(n, H, W)``, 0 or 1, and their int64 classes ``(n,)``.

    Raises:
        ValueError: If a sample has no ``gt_panoptic_seg``.
    """
    pairs = []
    for sample in batch_data_samples:
        if "gt_panoptic_seg" not in sample:
            raise ValueError(
                "a data sample has no gt_panoptic_seg, which the masks to learn are made from; "
                "load and pack the panoptic annotation in the pipeline"
            )
        pairs.append(_masks_of(sample.gt_panoptic_seg, dtype))
    return [masks for masks, _ in pairs], [labels for _, labels in pairs]


def _masks_of(data: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Number the masks, then compare: the map is read once for each mask."""
    labels: list[int] = []
    of_stuff: dict[int, int] = {}
    numbers = [0]
    for segment in data.segments_info:
        label = int(segment["label"])
        if segment.get("iscrowd", 0):
            numbers.append(0)
        elif not segment["isthing"] and label in of_stuff:
            numbers.append(of_stuff[label])
        else:
            labels.append(label)
            numbers.append(len(labels))
            if not segment["isthing"]:
                of_stuff[label] = len(labels)
    index_map = data.index_map[0]
    table = as_tensor_on(index_map, numbers, torch.int32)
    merged = table.index_select(0, index_map.flatten().int()).view(index_map.shape)
    present = torch.bincount(merged.flatten(), minlength=len(labels) + 1)[1:].nonzero()[:, 0]
    masks = merged[None] == (present + 1)[:, None, None]
    return masks.to(dtype), as_tensor_on(index_map, labels, torch.int64)[present]
