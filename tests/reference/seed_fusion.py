"""Offline fusion of saved SOLOv2 masks, on full-size maps: as published, and with its pairs right.

The published script (Location-Based-Panoptic-Segmentation-with-SOLOv2) takes the k-th saved mask as
the mask of the k-th detection of another model, whose class and box it keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


def fuse_as_published(
    probability: Tensor,
    boxes: Tensor,
    labels: Sequence[int],
    masks: Tensor,
    city_ids: Sequence[int],
    num_stuff: int,
    area_thr: int,
) -> Tensor:
    """Fuse one image as the published script does.

    Args:
        probability: Semantic softmax ``(C, H, W)``, stuff first.
        boxes: ``(K, 4)`` of the detections.
        labels: Their classes among the things.
        masks: ``(K, H, W)`` of 0 and 1, saved by SOLOv2.
        city_ids: Id of each class.
        num_stuff: Number of stuff classes.
        area_thr: Smallest stuff segment in pixels.

    Returns:
        Ids ``(H, W)``; things are class * 1000 + number within the class.
    """
    fused = []
    for box, label, mask in zip(boxes, labels, masks.float(), strict=True):
        x0, y0, x1, y1 = map(int, box)
        semantic = torch.zeros_like(mask)
        # The class among the things, taken as a channel, is one of the stuff.
        semantic[y0:y1, x0:x1] = probability[label, y0:y1, x0:x1]
        fused.append((mask.sigmoid() + semantic.sigmoid()) * (mask + semantic))
    winner = torch.cat([probability[:num_stuff], torch.stack(fused)]).argmax(0)
    canvas = torch.zeros(winner.shape, dtype=torch.int64)
    numbers: Counter[int] = Counter()
    for k, label in enumerate(labels):
        canvas[winner == num_stuff + k] = city_ids[num_stuff + label] * 1000 + numbers[label]
        numbers[label] += 1
    semantic = probability.argmax(0)
    for label in range(num_stuff):
        own = (canvas == 0) & (semantic == label)
        if own.sum() >= area_thr:
            canvas[own] = city_ids[label]
    return canvas


def fuse_paired(
    logits: Tensor,
    labels: Sequence[int],
    masks: Tensor,
    num_stuff: int,
    area_thr: int,
    binary_logit: float,
) -> tuple[Tensor, list[int]]:
    """Fuse one image with every mask's own class and box, and with logits.

    Args:
        logits: Semantic logits ``(C, H, W)``, stuff first.
        labels: Classes among the things, by descending score of the masks.
        masks: bool ``(K, H, W)``.
        num_stuff: Number of stuff classes.
        area_thr: Smallest stuff segment in pixels.
        binary_logit: Logit inside of a mask.

    Returns:
        Segments ``(H, W)``: mask from 1, stuff class from K + 1, 0 for void; masks that were kept.
    """
    occupied = torch.zeros(masks.shape[1:], dtype=torch.bool)
    fused, kept = [], []
    for k, (label, mask) in enumerate(zip(labels, masks, strict=True)):
        if (mask & occupied).sum() / mask.sum() > 0.5:
            continue
        occupied |= mask
        kept.append(k)
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        box = torch.zeros_like(mask)
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        instance = (mask.float() * 2 - 1) * binary_logit
        semantic = logits[num_stuff + label]
        value = (instance.sigmoid() + semantic.sigmoid()) * (instance + semantic)
        fused.append(torch.where(box, value, -torch.inf))
    winner = torch.cat([logits[:num_stuff], torch.stack(fused)]).argmax(0)
    result = torch.zeros(winner.shape, dtype=torch.int64)
    for place, k in enumerate(kept):
        result[winner == num_stuff + place] = k + 1
    semantic = logits.argmax(0)
    for label in range(num_stuff):
        own = (result == 0) & (semantic == label)
        if own.sum() >= area_thr:
            result[own] = len(masks) + 1 + label
    return result, kept
