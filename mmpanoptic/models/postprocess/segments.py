"""From numbered pixels to segments: votes, numbers, areas, boxes, scores, ``segments_info``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmpanoptic.structures import SegmentInfo, as_tensor_on

from .augmented import MeanLogits
from .resized_logits import ResizedLogits

FREE = 1
"""Owner of the pixels that no instance has; instance k is owner k + 2, and 0 is never used.

So ``owner * mask`` has 0 outside of the mask and distinct numbers inside.
"""
FIRST = 2
STRIPES = 32
"""Copies of the totals on a GPU: neighbouring threads would otherwise wait for one address."""


class SegmentTable(NamedTuple):
    """Candidates for segments: first every class as stuff, then every instance.

    Attributes:
        number (Tensor): int32 ``(C + K,)``, segment number from 1, or 0 if there is none. Numbers
            ascend by class and, within a class, by instance.
        label (Tensor): int64 ``(C + K,)``, class.
    """

    number: Tensor
    label: Tensor


class SegmentStatistics(NamedTuple):
    """Geometry of candidates.

    Attributes:
        area (Tensor): int64 ``(M,)``, pixels.
        box (Tensor): int64 ``(M, 4)``, x0, y0, x1, y1 with exclusive ends; 0 without pixels.
        centroid (Tensor): int64 ``(M, 2)``, (y, x) truncated; 0 without pixels.
    """

    area: Tensor
    box: Tensor
    centroid: Tensor

    def of(self, number: Tensor) -> SegmentStatistics:
        """Take the rows of segments by number ``(N,)``; those of the first for number 0."""
        row = (number.long() - 1).clamp_(min=0)
        return SegmentStatistics(*(part[row] for part in self))


class MergedSegments(NamedTuple):
    """A panoptic map before scores.

    Attributes:
        index_map (Tensor): int32 ``(H, W)``, segment number, 0 for void.
        table (SegmentTable): The candidates.
    """

    index_map: Tensor
    table: SegmentTable


def block_elements(device: torch.device) -> int:
    """Choose how many numbers a block of work holds: what a CPU's cache or a GPU likes."""
    return 1 << 18 if device.type == "cpu" else 1 << 23


def blocks(flat: Tensor) -> Iterator[tuple[int, int]]:
    """Cut pixels into blocks, so that temporaries stay small.

    Args:
        flat (Tensor): ``(P,)``.

    Yields:
        tuple[int, int]: First position of a block and the one behind its last.
    """
    size = block_elements(flat.device)
    for start in range(0, len(flat), size):
        yield start, min(start + size, len(flat))


def count_values(values: Tensor, num_values: int) -> Tensor:
    """Count how often each of ``0 .. num_values - 1`` occurs.

    ``torch.bincount`` is fast on CPUs, but on a GPU the host waits for the largest value.

    Args:
        values (Tensor): Integers ``(P,)``.
        num_values (int): Number of different values.

    Returns:
        Tensor: int64 ``(num_values,)``.
    """
    if values.device.type == "cpu":
        return torch.bincount(values, minlength=num_values)
    return add_striped(values, torch.ones_like(values, dtype=torch.int32), num_values)


def sum_values(values: Tensor, owner: Tensor, num_owners: int) -> Tensor:
    """Add up values by owner.

    Args:
        values (Tensor): ``(P,)``.
        owner (Tensor): Integers ``(P,)`` below ``num_owners``.
        num_owners (int): Number of owners.

    Returns:
        Tensor: ``(num_owners,)``, the type of ``values``.
    """
    if values.device.type == "cpu":
        return values.new_zeros(num_owners).index_add_(0, owner, values)
    return add_striped(owner, values, num_owners)


def add_striped(index: Tensor, values: Tensor, length: int) -> Tensor:
    """Add values ``(P,)`` to the places ``index`` of one of several totals, then add these up.

    Args:
        index (Tensor): Integers ``(P,)`` below ``length``.
        values (Tensor): ``(P,)``.
        length (int): Length of the result.

    Returns:
        Tensor: ``(length,)``; int64 if the values are integers.
    """
    stripes = max(min(STRIPES, (1 << 23) // max(length, 1)), 1)
    stripe = torch.arange(len(index), device=index.device) % stripes
    total = torch.zeros(stripes * length, dtype=values.dtype, device=values.device)
    total.index_add_(0, stripe.mul_(length).add_(index), values)
    return total.view(stripes, length).sum(0)


def merge_segments(
    semantic: Tensor, instance: Tensor, num_instances: int, isthing: Tensor, stuff_area: int
) -> MergedSegments:
    """Let each group of thing pixels vote for its class, drop small stuff.

    Panoptic-DeepLab (arXiv:1911.10194), section 3.1 (majority vote). Ties in the vote go to the
    smaller class; all pixels of a group take its class. Without any centre things are void.

    Args:
        semantic (Tensor): int64 classes ``(H, W)``.
        instance (Tensor): int32 ``(H, W)``, instance of each pixel from 1, 0 for none.
        num_instances (int): Number K of instances, or a bound.
        isthing (Tensor): bool ``(C,)``.
        stuff_area (int): Stuff classes with fewer pixels become void.

    Returns:
        MergedSegments: Map and candidates.
    """
    num_classes = len(isthing)
    classes, owner = semantic.flatten(), instance.flatten()
    parts = list(blocks(classes))
    num_codes = (num_instances + 1) * num_classes
    votes = torch.zeros(num_codes, dtype=torch.int64, device=classes.device)
    for start, stop in parts:
        ballots = classes[start:stop] + owner[start:stop] * num_classes
        votes += count_values(ballots, num_codes)
    stuff, votes = votes.view(-1, num_classes).split([1, num_instances])
    kept = ~isthing & (stuff[0] >= stuff_area) & (stuff[0] > 0)
    table = _number_segments(kept, votes)
    # One look-up serves stuff (by class) and things (by instance).
    index_map = torch.empty(owner.shape, dtype=torch.int32, device=owner.device)
    for start, stop in parts:
        part = owner[start:stop]
        row = torch.where(part > 0, part + (num_classes - 1), classes[start:stop])
        torch.index_select(table.number, 0, row, out=index_map[start:stop])
    return MergedSegments(index_map.view(semantic.shape), table)


def _number_segments(kept_stuff: Tensor, votes: Tensor) -> SegmentTable:
    """Number the stuff classes ``(C,)`` and the instances with votes ``(K, C)``."""
    num_classes = votes.shape[1]
    classes = torch.arange(num_classes, device=votes.device)
    label = torch.cat([classes, votes.argmax(1)])
    valid = torch.cat([kept_stuff, votes.any(1)])
    order = torch.where(valid, label, num_classes).argsort(stable=True)
    number = torch.empty(len(order), dtype=torch.int32, device=votes.device)
    number[order] = torch.arange(1, len(order) + 1, dtype=torch.int32, device=votes.device)
    return SegmentTable(torch.where(valid, number, 0), label)


def segment_statistics(index_map: Tensor, num_segments: int) -> SegmentStatistics:
    """Measure segments from their numbers of pixels in each row and column.

    Args:
        index_map (Tensor): int32 ``(H, W)``, 0 is void.
        num_segments (int): Largest possible number M.

    Returns:
        SegmentStatistics: Of segments 1..M.
    """
    height, width = index_map.shape
    y = torch.arange(height, dtype=torch.int32, device=index_map.device)
    x = torch.arange(width, dtype=torch.int32, device=index_map.device)
    rows = torch.empty(num_segments, height, dtype=torch.int64, device=index_map.device)
    columns = torch.zeros(num_segments, width, dtype=torch.int64, device=index_map.device)
    size = max(block_elements(index_map.device) // width, 1)
    for band, out in zip(index_map.split(size), rows.split(size, dim=1), strict=True):
        codes = (band * len(band)).add_(y[: len(band), None])
        out.copy_(_histogram(codes, num_segments, len(band)))
        columns += _histogram((band * width).add_(x), num_segments, width)
    return _from_histograms(rows, columns, y, x)


def _from_histograms(rows: Tensor, columns: Tensor, y: Tensor, x: Tensor) -> SegmentStatistics:
    area = rows.sum(1)
    top, bottom = _extent(rows)
    left, right = _extent(columns)
    divisor = area.clamp(min=1)
    centroid = torch.stack([(rows * y).sum(1) // divisor, (columns * x).sum(1) // divisor], dim=1)
    return SegmentStatistics(area, torch.stack([left, top, right, bottom], dim=1), centroid)


def _histogram(codes: Tensor, num_segments: int, length: int) -> Tensor:
    counts = count_values(codes.flatten(), (num_segments + 1) * length)
    return counts.view(num_segments + 1, length)[1:]


def _extent(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Find the first non-zero entry of each row and the end of the last one; 0, 0 if none."""
    used = (counts > 0).to(torch.int32)
    first = used.argmax(1)
    end = counts.shape[1] - used.flip(1).argmax(1)
    return first, torch.where(used.any(1), end, 0)


def number_segments(
    owner: Tensor,
    visible: Any,
    order: Sequence[int],
    semantic: Tensor,
    is_stuff: Tensor,
    stuff_area: int,
) -> tuple[Tensor, Tensor]:
    """Fill the free pixels with stuff and number the segments.

    Args:
        owner (Tensor): Integers ``(H, W)``, who has each pixel, see :data:`FREE`.
        visible (Tensor | np.ndarray): ``(K,)``, pixels that each instance has.
        order (Sequence[int]): The order in which the instances were painted.
        semantic (Tensor): Integers ``(H, W)``, channel of each pixel.
        is_stuff (Tensor): bool ``(C,)``, channels that become segments; the last entry is that of
            all further channels, too.
        stuff_area (int): Stuff with fewer free pixels becomes void.

    Returns:
        tuple: int32 map ``(H, W)``, 0 is void, and int32 ``(K + C,)``, the number of the segment
        of each instance and channel, 0 if there is none. Instances come first, in the order of
        painting, then stuff by channel.
    """
    count, channels = len(visible), len(is_stuff)
    size, device = owner.shape, owner.device
    owner, semantic = owner.flatten(), semantic.flatten()
    code = torch.empty(owner.shape, dtype=torch.int32, device=device)
    total = torch.zeros(count + FIRST + channels, dtype=torch.int64, device=device)
    for start, stop in blocks(owner):
        have, out = owner[start:stop], code[start:stop]
        out.copy_(semantic[start:stop]).clamp_(max=channels - 1).add_(count + FIRST)
        torch.where(have == FREE, out, have.to(torch.int32), out=out)
        total += count_values(out, len(total))
    stuff = is_stuff & (total[count + FIRST :] >= max(stuff_area, 1))
    rank = as_tensor_on(total, order)
    present = torch.as_tensor(visible, device=device)[rank] > 0
    running = torch.cat([present, stuff]).cumsum(0, dtype=torch.int32)
    number = torch.zeros(count + channels, dtype=torch.int32, device=device)
    number[rank] = running[: len(rank)] * present
    number[count:] = running[len(rank) :] * stuff
    table = torch.cat([number.new_zeros(FIRST), number])
    index_map = torch.empty_like(code)
    for start, stop in blocks(owner):
        torch.index_select(table, 0, code[start:stop], out=index_map[start:stop])
    return index_map.view(size), number


def segment_rows(number: Tensor, label: Tensor, score: Tensor, area: Tensor, box: Tensor) -> Tensor:
    """Collect what is known of the segments of a map, still on its device.

    Args:
        number (Tensor): Integers ``(N,)``, number of each candidate's segment, 0 if there is none.
        label (Tensor): int64 ``(N,)``, contiguous labels.
        score (Tensor): float ``(N,)``.
        area (Tensor): int64 ``(N,)``, pixels.
        box (Tensor): int64 ``(N, 4)``, x0, y0, x1, y1 with exclusive ends.

    Returns:
        Tensor: float64 ``(N, 8)``, for :func:`list_segments`.
    """
    parts = (number[:, None], label[:, None], area[:, None], box, score[:, None])
    return torch.cat([part.double() for part in parts], dim=1)


def list_segments(maps: Sequence[Tensor], thing_labels: Collection[int]) -> list[list[SegmentInfo]]:
    """Describe the segments of the maps of a batch.

    This is the only copy of results from the device; the host waits here, once.

    Args:
        maps (Sequence[Tensor]): Of each map its :func:`segment_rows`.
        thing_labels (Collection[int]): Contiguous labels of the things.

    Returns:
        list[list[SegmentInfo]]: Of each map, by number.
    """
    rows = iter(torch.cat(list(maps)).tolist() if maps else [])
    return [_describe_rows(list(islice(rows, len(one))), thing_labels) for one in maps]


def _describe_rows(rows: Sequence[list[float]], thing_labels: Collection[int]) -> list[SegmentInfo]:
    return [
        SegmentInfo(
            id=int(number),
            label=int(label),
            isthing=int(label) in thing_labels,
            score=score,
            area=int(area),
            bbox=[x0, y0, x1 - x0, y1 - y0],
        )
        for number, label, area, x0, y0, x1, y1, score in sorted(rows)
        if number
    ]


def mean_class_probability(
    logits: ResizedLogits | MeanLogits, instance: Tensor, label: Tensor, sparse: bool
) -> Tensor:
    """Average the softmax of each instance's class over its pixels.

    Args:
        logits (ResizedLogits | MeanLogits): Of C classes at ``(H, W)``.
        instance (Tensor): int32 ``(H, W)``, instance from 1 of each pixel, 0 for none.
        label (Tensor): int64 ``(K,)``, class of each instance.
        sparse (bool): Compute the logits of the instances' pixels only; sizes then depend on the
            data.

    Returns:
        Tensor: float64 ``(K,)``, 0 without pixels.
    """
    label = torch.cat([label.new_zeros(1), label])
    total = torch.zeros(len(label), dtype=torch.float64, device=label.device)
    count = torch.zeros_like(total)
    for top, bottom in logits.bands():
        owner = instance[top:bottom].flatten()
        if not sparse:
            values = logits.rows(top, bottom).flatten(1)
            chosen = values.gather(0, label.index_select(0, owner)[None])
            _add_probability(total, count, values.sub_(chosen).exp_().sum(0), owner)
            continue
        pixels = owner.nonzero()[:, 0]
        for block, values in logits.at(top, bottom, pixels):
            part = owner.index_select(0, pixels[block])
            chosen = values.gather(1, label.index_select(0, part)[:, None])
            _add_probability(total, count, values.sub_(chosen).exp_().sum(1), part)
    return (total / count.clamp_(min=1))[1:]


def _add_probability(total: Tensor, count: Tensor, odds: Tensor, owner: Tensor) -> None:
    """Add the probabilities of pixels to their owners' totals.

    Args:
        total (Tensor): float64 ``(K,)``, changed in place.
        count (Tensor): float64 ``(K,)``, changed in place.
        odds (Tensor): ``(P,)``, sum over all classes of the probability relative to the chosen
            class; infinite where that class is out of the question.
        owner (Tensor): int32 ``(P,)``.
    """
    total += sum_values(odds.reciprocal_().double(), owner, len(total))
    count += count_values(owner, len(total))
