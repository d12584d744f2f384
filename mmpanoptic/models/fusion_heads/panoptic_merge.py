"""Merge classes and grouped pixels into one panoptic map with statistics of its segments."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mmpanoptic.models.layers import ResizedLogits
from mmpanoptic.structures import SegmentInfo

from .augmented import MeanLogits
from .centers import assign_to_centers, block_elements
from .counting import count_values, sum_values


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


class MergedSegments(NamedTuple):
    """A panoptic map before scores.

    Attributes:
        index_map (Tensor): int32 ``(H, W)``, segment number, 0 for void.
        table (SegmentTable): The candidates.
    """

    index_map: Tensor
    table: SegmentTable


def group_things(
    semantic: Tensor,
    centers: Tensor,
    offset: Tensor,
    isthing: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Send the thing pixels to their centres.

    Args:
        semantic (Tensor): int64 classes ``(H, W)``.
        centers (Tensor): int64 ``(K, 2)``, (y, x).
        offset (Tensor): ``(2, H, W)``, (dy, dx) in pixels.
        isthing (Tensor): bool ``(C,)``.
        valid (Tensor | None): bool ``(K,)``, which of them are centres. With it all pixels are
            sent, so that no size depends on the data; without it only thing pixels.

    Returns:
        Tensor: int32 ``(H, W)``, centre from 1; 0 for stuff, and everywhere without centres.
    """
    flat = semantic.flatten()
    instance = torch.zeros(flat.shape, dtype=torch.int32, device=flat.device)
    if not len(centers):
        return instance.view(semantic.shape)
    for start, stop in _blocks(flat):
        thing = isthing.index_select(0, flat[start:stop])
        if valid is None:
            pixels = thing.nonzero()[:, 0]
            owner = assign_to_centers(centers, offset, pixels + start)
            instance[start:stop].scatter_(0, pixels, owner.add_(1))
        else:
            pixels = torch.arange(start, stop, device=flat.device)
            owner = assign_to_centers(centers, offset, pixels, valid)
            torch.mul(owner.add_(1), thing & valid.any(), out=instance[start:stop])
    return instance.view(semantic.shape)


def merge_segments(
    semantic: Tensor, instance: Tensor, num_instances: int, isthing: Tensor, stuff_area: int
) -> MergedSegments:
    """Let each group of thing pixels vote for its class, drop small stuff.

    Panoptic-DeepLab (arXiv:1911.10194), section 3.1 (majority vote). Ties in the vote go to the
    smaller class; all pixels of a group take its class. Without any centre things are void.

    Args:
        semantic (Tensor): int64 classes ``(H, W)``.
        instance (Tensor): int32 ``(H, W)``, from :func:`group_things`.
        num_instances (int): Number K of instances, or a bound.
        isthing (Tensor): bool ``(C,)``.
        stuff_area (int): Stuff classes with fewer pixels become void.

    Returns:
        MergedSegments: Map and candidates.
    """
    num_classes = len(isthing)
    classes, owner = semantic.flatten(), instance.flatten()
    blocks = list(_blocks(classes))
    num_codes = (num_instances + 1) * num_classes
    votes = torch.zeros(num_codes, dtype=torch.int64, device=classes.device)
    for start, stop in blocks:
        ballots = classes[start:stop] + owner[start:stop] * num_classes
        votes += count_values(ballots, num_codes)
    stuff, votes = votes.view(-1, num_classes).split([1, num_instances])
    kept = ~isthing & (stuff[0] >= stuff_area) & (stuff[0] > 0)
    table = _number_segments(kept, votes)
    # One look-up serves stuff (by class) and things (by instance).
    index_map = torch.empty(owner.shape, dtype=torch.int32, device=owner.device)
    for start, stop in blocks:
        part = owner[start:stop]
        row = torch.where(part > 0, part + (num_classes - 1), classes[start:stop])
        torch.index_select(table.number, 0, row, out=index_map[start:stop])
    return MergedSegments(index_map.view(semantic.shape), table)


def _blocks(flat: Tensor) -> Iterator[tuple[int, int]]:
    """Cut the pixels into blocks, so that temporaries stay small."""
    size = block_elements(flat.device)
    for start in range(0, len(flat), size):
        yield start, min(start + size, len(flat))


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


def segment_columns(
    number: Tensor, label: Tensor, score: Tensor, statistics: SegmentStatistics
) -> Tensor:
    """Collect what describes the segments of a map.

    Args:
        number (Tensor): int32 ``(N,)``, number of each candidate's segment, 0 if there is none.
        label (Tensor): int64 ``(N,)``, contiguous labels.
        score (Tensor): float64 ``(N,)``.
        statistics (SegmentStatistics): Of the segments by number.

    Returns:
        Tensor: float64 ``(N, 8)``: number, label, area, x0, y0, x1, y1, score.
    """
    row = (number.long() - 1).clamp_(min=0)
    parts = [number[:, None], label[:, None], statistics.area[row, None], statistics.box[row]]
    return torch.cat([*(part.double() for part in parts), score[:, None]], dim=1)


def list_segments(columns: Tensor, thing_labels: Collection[int]) -> list[SegmentInfo]:
    """Describe the segments of a map.

    This is the only copy of results from the device; the host waits here.

    Args:
        columns (Tensor): From :func:`segment_columns`.
        thing_labels (Collection[int]): Contiguous labels of the things.

    Returns:
        list[SegmentInfo]: By number.
    """
    return [
        SegmentInfo(
            id=int(number),
            label=int(label),
            isthing=int(label) in thing_labels,
            score=score,
            area=int(area),
            bbox=[x0, y0, x1 - x0, y1 - y0],
        )
        for number, label, area, x0, y0, x1, y1, score in sorted(columns.tolist())
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
