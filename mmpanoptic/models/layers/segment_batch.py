"""The panoptic ground truth of a batch as tensors, for heads that derive targets from it."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.structures import IGNORE_LABEL
from mmpanoptic.structures.runs import paint_runs, row_runs


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
        maps (list[Tensor]): int32 ``(1, H, W)`` of each image: 0 is void, k its k-th segment;
            padding is void.
        numbers (list[Tensor]): int32 of each image: the number of each entry of its map.
        label (Tensor): int64 ``(S + 1,)``, contiguous class; ``IGNORE_LABEL`` for void.
        isthing (Tensor): bool ``(S + 1,)``.
        iscrowd (Tensor): bool ``(S + 1,)``.
        image (Tensor): int64 ``(S + 1,)``, position of the segment's image in the batch.
        things (Tensor): int64 ``(T,)``, numbers of the things (crowds too), ascending.
        img_shapes (list[tuple[int, int]]): Height and width of each image without padding.
    """

    maps: list[Tensor]
    numbers: list[Tensor]
    label: Tensor
    isthing: Tensor
    iscrowd: Tensor
    image: Tensor
    things: Tensor
    img_shapes: list[tuple[int, int]]

    def paint(self, table: Tensor) -> Tensor:
        """Replace each segment number by its entry of ``table`` ``(S + 1,)``: ``(N, H, W)``."""
        if self.on_cpu:
            painted = reused_empty(self.shape, table.dtype)
            of_runs = table.index_select(0, self.runs.segment).numpy()
            paint_runs(painted.numpy(), self.runs.start.numpy(), of_runs)
            return painted
        return table.index_select(0, self.index.flatten()).view(self.index.shape)

    @property
    def on_cpu(self) -> bool:
        """Whether maps are painted by runs; elsewhere the host would wait for their number."""
        return self.device.type == "cpu"

    @property
    def device(self) -> torch.device:
        """Where maps and tables lie."""
        return self.label.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(N, H, W)``."""
        return (len(self.maps), *self.maps[0].shape[-2:])

    @cached_property
    def index(self) -> Tensor:
        """int32 ``(N, H, W)``, segment number of each pixel in the batch."""
        index = torch.empty(self.shape, dtype=torch.int32, device=self.device)
        for own, numbers, out in zip(self.maps, self.numbers, index, strict=True):
            torch.index_select(numbers, 0, own.flatten(), out=out.view(-1))
        return index

    @cached_property
    def runs(self) -> BatchRuns:
        """The runs of the whole batch; a run never crosses a row border."""
        if self.on_cpu:
            found = [map(torch.from_numpy, row_runs(own.numpy())) for own in self.maps]
            starts, values = zip(*found, strict=True)
            size = self.maps[0].numel()
            start = torch.cat([own + number * size for number, own in enumerate(starts)])
            segment = torch.cat([n[v] for n, v in zip(self.numbers, values, strict=True)])
            length = torch.diff(start, append=start.new_tensor([len(starts) * size]))
            return BatchRuns(start, length, segment.long())
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
    labels, things, crowds, images = [IGNORE_LABEL], [False], [False], [0]
    for sample in batch_data_samples:
        _check_sample(sample, batch_data_samples[0])
    maps, for_maps = [], []
    for number, sample in enumerate(batch_data_samples):
        data = sample.gt_panoptic_seg
        first = len(labels) - 1
        numbers = torch.arange(first, first + len(data.segments_info) + 1, dtype=torch.int32)
        numbers[0] = 0  # void in every image
        maps.append(data.index_map.int())
        for_maps.append(numbers.to(data.index_map.device, non_blocking=True))
        for segment in data.segments_info:
            labels.append(int(segment["label"]))
            things.append(bool(segment["isthing"]))
            crowds.append(bool(segment.get("iscrowd", 0)))
            images.append(number)
    thing_numbers = [number for number, thing in enumerate(things) if thing]

    def tensor(values: list, dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype).to(maps[0].device, non_blocking=True)

    return SegmentBatch(
        maps=maps,
        numbers=for_maps,
        label=tensor(labels, torch.int64),
        isthing=tensor(things, torch.bool),
        iscrowd=tensor(crowds, torch.bool),
        image=tensor(images, torch.int64),
        things=tensor(thing_numbers, torch.int64),
        img_shapes=[tuple(sample.img_shape[:2]) for sample in batch_data_samples],
    )


_reused: list[np.ndarray] = []
_MOST_REUSED = 16
_reusing = threading.Lock()


def _count_holders(kept: list[np.ndarray], number: int) -> int:
    return sys.getrefcount(kept[number])


_NOBODY = _count_holders([np.empty(1)], 0)
"""What an array of a list counts that nobody else holds; interpreters count in their own way."""


def reused_empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Make an uninitialised map on the CPU in memory that an earlier one has left.

    Fresh memory of this size comes from the system and goes back, page by page, in every step,
    which costs as much as filling it.

    Args:
        shape (tuple[int, ...]): Of the map.
        dtype (torch.dtype): Of its elements.

    Returns:
        Tensor: Nobody else's, as long as it lives.
    """
    kind = torch.empty(0, dtype=dtype).numpy().dtype
    needed = math.prod(shape) * kind.itemsize
    with _reusing:
        for number in range(len(_reused)):
            # A living map holds the memory, too.
            if _reused[number].nbytes == needed and _count_holders(_reused, number) == _NOBODY:
                _reused.append(_reused.pop(number))  # the most recent one is last
                break
        else:
            _reused.append(np.empty(needed, np.uint8))
            del _reused[:-_MOST_REUSED]
        return torch.from_numpy(_reused[-1].view(kind).reshape(shape))


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
