"""The panoptic ground truth of a batch as tensors, for heads that derive targets from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmpanoptic.structures import IGNORE_LABEL


class BatchRuns(NamedTuple):
    """Row-wise runs of equal segments in a batch of maps.

    Attributes:
        start (Tensor): int64 ``(R,)``, index of the first pixel in the flattened batch.
        length (Tensor): int64 ``(R,)``, pixels.
        segment (Tensor): int64 ``(R,)``, segment number in the batch.
    """

    start: Tensor
    length: Tensor
    segment: Tensor


@dataclass
class SegmentBatch:
    """Segments of all images of a batch, numbered through; number 0 is void.

    Attributes:
        index (Tensor): int32 ``(N, H, W)``, segment number of each pixel; padding is void.
        label (Tensor): int64 ``(S + 1,)``, contiguous class; ``IGNORE_LABEL`` for void.
        isthing (Tensor): bool ``(S + 1,)``.
        iscrowd (Tensor): bool ``(S + 1,)``.
        image (Tensor): int64 ``(S + 1,)``, position of the segment's image in the batch.
        things (Tensor): int64 ``(T,)``, numbers of the things (crowds too), ascending.
        img_shapes (list[tuple[int, int]]): Height and width of each image without padding.
    """

    index: Tensor
    label: Tensor
    isthing: Tensor
    iscrowd: Tensor
    image: Tensor
    things: Tensor
    img_shapes: list[tuple[int, int]]

    def paint(self, table: Tensor) -> Tensor:
        """Replace each segment number by its entry of ``table`` ``(S + 1,)``: ``(N, H, W)``."""
        return table.index_select(0, self.index.flatten()).view(self.index.shape)

    @cached_property
    def runs(self) -> BatchRuns:
        """The runs of the whole batch; a run never crosses a row border."""
        flat = self.index.flatten()
        change = torch.ones(flat.numel(), dtype=torch.bool, device=flat.device)
        torch.ne(flat[1:], flat[:-1], out=change[1:])
        change[:: self.index.shape[2]] = True
        start = change.nonzero()[:, 0]
        end = torch.cat([start[1:], start.new_full((1,), flat.numel())])
        return BatchRuns(start, end - start, flat.index_select(0, start).long())

    @cached_property
    def area(self) -> Tensor:
        """int64 ``(S + 1,)``, pixels of each segment (padding counts as void)."""
        return self.sum_over_runs(self.runs.length)

    def sum_over_runs(self, per_run: Tensor) -> Tensor:
        """Add int64 values ``(R,)`` up per segment ``(S + 1,)``; exact on every device."""
        total = torch.zeros_like(self.label)
        return total.index_add_(0, self.runs.segment, per_run)


def collate_segments(batch_data_samples: Sequence[Any]) -> SegmentBatch:
    """Number the segments of a batch through and put them into tensors on the maps' device.

    Args:
        batch_data_samples (Sequence[DetDataSample]): With ``gt_panoptic_seg`` (see
            :func:`mmpanoptic.structures.make_panoptic_data`), padded to one size, and the
            metainfo ``img_shape``.

    Returns:
        SegmentBatch: Everything that target generators need.

    Raises:
        ValueError: If a sample has no ``gt_panoptic_seg`` or sizes differ.
    """
    maps, labels, things, crowds, images = [], [IGNORE_LABEL], [False], [False], [0]
    for number, sample in enumerate(batch_data_samples):
        _check_sample(sample, batch_data_samples[0])
        data = sample.gt_panoptic_seg
        first = len(labels) - 1
        numbers = torch.arange(first, first + len(data.segments_info) + 1, dtype=torch.int32)
        numbers[0] = 0  # void in every image
        for_map = numbers.to(data.index_map.device, non_blocking=True)
        maps.append(for_map.index_select(0, data.index_map.int().flatten()))
        for segment in data.segments_info:
            labels.append(int(segment["label"]))
            things.append(bool(segment["isthing"]))
            crowds.append(bool(segment.get("iscrowd", 0)))
            images.append(number)
    index = torch.stack(maps).view(len(maps), *batch_data_samples[0].gt_panoptic_seg.shape)
    thing_numbers = [number for number, thing in enumerate(things) if thing]

    def tensor(values: list, dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype).to(index.device, non_blocking=True)

    return SegmentBatch(
        index=index,
        label=tensor(labels, torch.int64),
        isthing=tensor(things, torch.bool),
        iscrowd=tensor(crowds, torch.bool),
        image=tensor(images, torch.int64),
        things=tensor(thing_numbers, torch.int64),
        img_shapes=[tuple(sample.img_shape[:2]) for sample in batch_data_samples],
    )


def _check_sample(sample: Any, first: Any) -> None:
    if "gt_panoptic_seg" not in sample:
        raise ValueError(
            "a data sample has no gt_panoptic_seg, which the training targets are made from; "
            "load and pack the panoptic annotation in the pipeline"
        )
    shape = tuple(sample.gt_panoptic_seg.index_map.shape)
    expected = tuple(first.gt_panoptic_seg.index_map.shape)
    if shape != expected:
        raise ValueError(
            f"gt_panoptic_seg has size {shape[1:]} in one sample and {expected[1:]} in another; "
            "PanopticDataPreprocessor pads them to one size when called with training=True"
        )
