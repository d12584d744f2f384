"""Which predicted segment answers for which segment of the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.models.multicut.layer import CutSegments

IOU_SMOOTHING = 0.1
"""Added to intersection and union."""

NO_SEGMENT = -2
"""Marks a channel without ground truth; unlike void, -1, no cell has it."""


class MatchedChannels(NamedTuple):
    """Channels of one image: its predicted segments, then the missed ones of the ground truth.

    Attributes:
        label (Tensor): int64 ``(P,)``, class of each channel.
        truth (Tensor): int64 ``(P,)``, code of the ground truth's segment, or ``NO_SEGMENT``.
    """

    label: Tensor
    truth: Tensor


@torch.no_grad()
def match_segments(
    segments: CutSegments,
    truth: Tensor,
    weight: Tensor,
    isthing: Sequence[bool],
    label_divisor: int,
) -> MatchedChannels:
    """Pair predicted segments with the ground truth of their class.

    COPS (arXiv:2106.03188), section 5. A stuff class has one segment on either side. Things are
    paired so that the sum of the intersections over unions is largest; pairs that hardly overlap
    are kept. Segments of the ground truth that remain get channels of their own, in the order of
    their classes.

    Args:
        segments (CutSegments): The prediction.
        truth (Tensor): int64 ``(h, w)``, codes ``class * label_divisor + n``; -1 for void.
        weight (Tensor): float32 ``(h, w)``, weights of the cells.
        isthing (Sequence[bool]): Of each class.
        label_divisor (int): See ``truth``.

    Returns:
        MatchedChannels: On the device of ``truth``.
    """
    codes, number = torch.unique(truth, return_inverse=True)
    iou = _overlaps(segments, number, len(codes), weight)
    codes_list = codes.tolist()
    columns: dict[int, list[int]] = {}
    for column, code in enumerate(codes_list):
        if code >= 0:
            columns.setdefault(code // label_divisor, []).append(column)
    labels = segments.label.tolist()
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    partner = [NO_SEGMENT] * len(labels)
    missed: list[int] = []
    for label in sorted(rows.keys() | columns.keys()):
        pairs = _assign(iou, rows.get(label, []), columns.get(label, []), isthing[label])
        for row, column in pairs:
            partner[row] = codes_list[column]
        taken = {column for _, column in pairs}
        missed += [codes_list[c] for c in columns.get(label, []) if c not in taken]
    labels += [code // label_divisor for code in missed]
    return MatchedChannels(
        torch.tensor(labels, dtype=torch.int64, device=truth.device),
        torch.tensor(partner + missed, dtype=torch.int64, device=truth.device),
    )


def _overlaps(segments: CutSegments, number: Tensor, count: int, weight: Tensor) -> np.ndarray:
    """Compute all intersections over unions ``(P, G)`` from one histogram."""
    height = len(segments.label) + 1
    joint = ((segments.index + 1) * count + number).flatten()
    pixels = weight.new_zeros(height * count).index_add_(0, joint, weight.flatten())
    common = pixels.view(height, count).cpu().double().numpy()
    inside, of_truth = common[1:], common.sum(0)
    union = inside.sum(1, keepdims=True) + of_truth - inside
    return np.asarray((inside + IOU_SMOOTHING) / (union + IOU_SMOOTHING))


def _assign(
    iou: np.ndarray, rows: list[int], columns: list[int], isthing: bool
) -> list[tuple[int, int]]:
    if not rows or not columns:
        return []
    if not isthing:
        return [(rows[0], columns[0])]
    # Imported here: only training through the solver needs it, and it is slow to import.
    from scipy.optimize import linear_sum_assignment

    found = linear_sum_assignment(iou[np.ix_(rows, columns)], maximize=True)
    return [(rows[i], columns[j]) for i, j in zip(*found, strict=True)]
