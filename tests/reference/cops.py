"""COPS's steps after the solver as published, from their description alone: stacks of masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def channels_of_cut(
    labels: Tensor, components: Tensor, things: Sequence[int], min_cells: int
) -> tuple[list[int], list[Tensor]]:
    """Make one mask per stuff class and per thing component, classes ascending."""
    classes, masks = [], []
    for label in labels.unique().tolist():
        mask = labels == label
        if label not in things:
            classes.append(label)
            masks.append(mask)
            continue
        for component in components[mask].unique().tolist():
            part = components == component
            if int(part.sum()) >= min_cells:
                classes.append(label)
                masks.append(part)
    return classes, masks


def panoptic_of_cut(
    labels: Tensor,
    components: Tensor,
    class_logits: Tensor,
    edge_logits: Sequence[Tensor],
    distances: Sequence[int],
    things: Sequence[int],
    areas: tuple[int, int],
    min_cells: int = 3,
) -> dict[str, Any]:
    """Enlarge the stack of masks, drop small ones, paint codes, score every instance by its mask.

    Args:
        labels (Tensor): ``(h, w)``.
        components (Tensor): ``(h, w)``.
        class_logits (Tensor): ``(C, h, w)``.
        edge_logits (Sequence[Tensor]): ``(2, h, w)`` of each distance.
        distances (Sequence[int]): The distances.
        things (Sequence[int]): Classes of things.
        areas (tuple[int, int]): Area limits of things and of stuff in pixels.
        min_cells (int): Smaller things form no segment.

    Returns:
        dict: ``panoptic`` codes ``(4 h, 4 w)`` and ``scores`` by code.
    """
    classes, masks = channels_of_cut(labels, components, things, min_cells)
    stack = functional.interpolate(torch.stack(masks)[None].float(), scale_factor=4)[0]
    full = functional.interpolate(
        class_logits[None], scale_factor=4, mode="bilinear", align_corners=False
    )[0]
    limit = torch.tensor([areas[label not in things] for label in classes])
    foreground = torch.sigmoid(0.1 * (stack.sum((1, 2)) - limit))
    panoptic = torch.full(stack.shape[1:], -1, dtype=torch.int64)
    count: dict[int, int] = {}
    scores = {}
    for label, mask, probability in zip(classes, stack, foreground.tolist(), strict=True):
        if probability < 0.5:
            continue
        code = label * 1000 + (count.get(label, 0) if label in things else 0)
        count[label] = count.get(label, 0) + 1
        panoptic[mask > 0] = code
        if label in things:
            edges = affinity_score(mask[2::4, 2::4] > 0, edge_logits, distances)
            scores[code] = float(full[label][mask > 0].mean()) + edges
    return {"panoptic": panoptic, "scores": scores}


def affinity_score(mask: Tensor, edge_logits: Sequence[Tensor], distances: Sequence[int]) -> float:
    """Compare the edges that a mask cuts with those inside it."""
    total = 0.0
    for logits, distance in zip(edge_logits, distances, strict=True):
        sign = torch.zeros_like(logits)
        before = 0 if distance == 1 else distance // 2
        for axis in (0, 1):
            length = mask.shape[axis]
            number = length - distance
            first = mask.narrow(axis, 0, number)
            second = mask.narrow(axis, distance, number)
            sign[axis].narrow(axis, before, number).copy_(
                (first ^ second).float() - (first & second).float()
            )
        total += float((logits * sign).mean())
    return total
