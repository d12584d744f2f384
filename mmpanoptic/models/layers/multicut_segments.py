"""Segments of a multiway cut: from node labels and components to channels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LABEL_DIVISOR = 1 << 16
"""Codes of segments are ``class * LABEL_DIVISOR + n``; more than the published 1000."""

FOREGROUND_SLOPE = 0.1
"""Steepness of the foreground probability per pixel of area."""


class CutSegments(NamedTuple):
    """Segments of one image, ordered by class and then by component.

    Attributes:
        index (Tensor): int64 ``(h, w)``, number of each cell's segment from 0; -1 for things that
            are too small.
        label (Tensor): int64 ``(P,)``, class of each segment, ascending.
        cells (Tensor): int64 ``(P,)``, size of each segment.
    """

    index: Tensor
    label: Tensor
    cells: Tensor


def segments_of_cut(
    labels: Tensor, components: Tensor, isthing: Tensor, min_cells: int
) -> CutSegments:
    """Number the segments of a cut: one for a stuff class, one for a component of a thing class.

    COPS (arXiv:2106.03188), section 4. Work on cells is one look-up; all else is done once for
    each component.

    Args:
        labels (Tensor): int64 ``(h, w)``, class of each cell; one class within a component.
        components (Tensor): int64 ``(h, w)``, component of each cell from 0.
        isthing (Tensor): bool ``(C,)``.
        min_cells (int): Things with fewer cells form no segment.

    Returns:
        CutSegments: Without segments if there are only things that are too small.
    """
    flat = components.flatten()
    size = torch.bincount(flat)
    label = torch.zeros_like(size).scatter_(0, flat, labels.flatten())
    thing = isthing.index_select(0, label)
    number = torch.arange(1, len(size) + 1, device=flat.device)
    key = label * (len(size) + 1) + torch.where(thing, number, 0)
    kept = ~thing | (size >= min_cells)
    # Component numbers need not be contiguous.
    kept &= size > 0
    unique, segment = torch.unique(key[kept], return_inverse=True)
    table = torch.full_like(size, -1)
    table[kept] = segment
    cells = torch.zeros_like(unique).index_add_(0, segment, size[kept])
    index = table.index_select(0, flat).view(components.shape)
    return CutSegments(index, unique // (len(size) + 1), cells)


def foreground_probability(
    area: Tensor, isthing: Tensor, instance_area: float, stuff_area: float
) -> Tensor:
    """Judge segments by their size: 1/2 at the area limit of things or of stuff.

    Args:
        area (Tensor): Areas ``(...)``.
        isthing (Tensor): bool ``(...)``.
        instance_area (float): Limit of things, in the unit of ``area``.
        stuff_area (float): Limit of stuff.

    Returns:
        Tensor: Probabilities ``(...)``.
    """
    limit = torch.where(isthing, float(instance_area), float(stuff_area))
    return torch.sigmoid(FOREGROUND_SLOPE * (area - limit))
