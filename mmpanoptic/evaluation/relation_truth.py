"""Detections and annotated relations: matching, and who of a pair lies in front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmpanoptic.structures import OVERLAP_FIELD


@dataclass(frozen=True)
class RelationTruth:
    """Annotated things of one image.

    Attributes:
        boxes (Tensor): float32 ``(M, 4)``, x0, y0, x1, y1.
        categories (Tensor): int64 ``(M,)``, category ids.
        fronts (dict[int, set[int]]): By position, the positions of those that lie in front.
    """

    boxes: Tensor
    categories: Tensor
    fronts: dict[int, set[int]]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs (front, behind) of positions."""
        return [(front, k) for k, fronts in sorted(self.fronts.items()) for front in sorted(fronts)]


def read_truth(annotations: Sequence[Mapping[str, Any]]) -> RelationTruth:
    """Read the annotations of one image; crowds are left out.

    Args:
        annotations (Sequence[Mapping]): With ``bbox``, ``category_id`` and ``overlap``.

    Returns:
        RelationTruth: In file order.

    Raises:
        ValueError: If an annotation has no ``overlap``.
    """
    single = [one for one in annotations if not one.get("iscrowd")]
    for one in single:
        if OVERLAP_FIELD not in one:
            raise ValueError(
                f"annotation {one['id']!r} has no field {OVERLAP_FIELD!r}; "
                "tools/dataset_converters/coco_relations.py adds it"
            )
    position = {one["id"]: k for k, one in enumerate(single)}
    boxes = torch.tensor([one["bbox"] for one in single], dtype=torch.float32).view(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    fronts = {
        k: {position[other] for other in one[OVERLAP_FIELD] if other in position}
        for k, one in enumerate(single)
    }
    categories = torch.tensor([one["category_id"] for one in single], dtype=torch.int64)
    return RelationTruth(boxes, categories, {k: v for k, v in fronts.items() if v})


def match_detections(
    boxes: Tensor, categories: Tensor, truth: RelationTruth, iou_thr: float
) -> list[int]:
    """Match detections and ground truth of the same class one to one.

    Differences from the original (RAP's test_relation): classes must agree, a minimum overlap is
    required, no ground truth is matched twice, and the first one counts.

    Args:
        boxes (Tensor): ``(K, 4)``, the best score first.
        categories (Tensor): int64 ``(K,)``.
        truth (RelationTruth): M things.
        iou_thr (float): Smallest IoU of the boxes.

    Returns:
        list[int]: Position of the ground truth of each detection, -1 without.
    """
    low = torch.maximum(boxes[:, None, :2], truth.boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], truth.boxes[None, :, 2:])
    common = (high - low).clamp_(min=0).prod(2)
    area = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(1) for b in (boxes, truth.boxes)]
    iou = common / (area[0][:, None] + area[1][None] - common).clamp(min=1e-6)
    iou[categories[:, None] != truth.categories[None]] = -1
    matches = []
    for row in iou:
        best = int(row.argmax()) if len(row) else -1
        if best < 0 or row[best] < iou_thr:
            matches.append(-1)
            continue
        matches.append(best)
        iou[:, best] = -1
    return matches
