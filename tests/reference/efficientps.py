"""Plain re-statement of EfficientPS's fusion, the way the authors' code does it.

Every channel of every mask is pasted into an image of its own; all instances and stuff classes are
stacked at full size. Used as oracle and as baseline of a benchmark.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def paste(values: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Sample masks ``(K, C, m, m)`` of boxes at the pixels of the image: ``(K, C, H, W)``."""
    x = torch.arange(width, dtype=torch.float32) + 0.5
    y = torch.arange(height, dtype=torch.float32) + 0.5
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    x = (x - x0) / (x1 - x0) * 2 - 1
    y = (y - y0) / (y1 - y0) * 2 - 1
    grid_x = x[:, None, :].expand(-1, height, -1)
    grid_y = y[:, :, None].expand(-1, -1, width)
    return functional.grid_sample(values, torch.stack([grid_x, grid_y], dim=3), align_corners=False)


def window_of(box: list[float], height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns in which the semantic logits of an instance count."""
    x0, y0, x1, y1 = box
    rows = slice(max(int(y0 + 1), 0), min(int(round(y1 - 1) + 1), height))
    return rows, slice(max(int(x0 + 1), 0), min(int(round(x1 - 1) + 1), width))


def fuse(
    logits: Tensor,
    boxes: Tensor,
    labels: Tensor,
    mask_logits: Tensor,
    size: tuple[int, int],
    num_stuff: int,
    stuff_area: int,
    overlap_thr: float = 0.5,
) -> tuple[Tensor, list[int]]:
    """Fuse one image.

    Args:
        logits (Tensor): Semantic logits ``(C, h, w)``, stuff classes first.
        boxes (Tensor): ``(K, 4)``, by descending score.
        labels (Tensor): ``(K,)``, thing class from 0.
        mask_logits (Tensor): ``(K, M, m, m)``; the channel of a class is ``label`` modulo M.
        size (tuple[int, int]): ``(H, W)`` of the result.
        num_stuff (int): Number of stuff classes.
        stuff_area (int): Smallest stuff segment in pixels.
        overlap_thr (float): Largest share of a mask that instances before may have taken.

    Returns:
        tuple: Map of ids ``(H, W)``, 0 is void, and the class of each id, 255 for void.
    """
    semantic = functional.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    classes = semantic.argmax(0)
    pasted = paste(mask_logits, boxes, *size)
    pasted = pasted[torch.arange(len(labels)), labels % pasted.shape[1]]
    occupied = torch.zeros(size, dtype=torch.bool)
    stack, kept = [*semantic[:num_stuff]], []
    for k, values in enumerate(pasted):
        mask = values.sigmoid() > 0.5
        if (mask & occupied).sum() / mask.sum() > overlap_thr:
            continue
        occupied |= mask
        rows, columns = window_of(boxes[k].tolist(), *size)
        own = torch.zeros(size)
        own[rows, columns] = semantic[num_stuff + int(labels[k]), rows, columns]
        values = values * 4
        stack.append((values.sigmoid() + own.sigmoid()) * (values + own))
        kept.append(k)
    winner = (torch.stack(stack).argmax(0) - (num_stuff - 1)).clamp(min=0)
    ids, table = torch.zeros(size, dtype=torch.int64), [255]
    for place, k in enumerate(kept, 1):
        if (winner == place).any():
            ids[winner == place] = len(table)
            table.append(num_stuff + int(labels[k]))
    for label in range(num_stuff):
        stuff = (classes == label) & (winner == 0)
        if stuff.any() and stuff.sum() >= stuff_area:
            ids[stuff] = len(table)
            table.append(label)
    return ids, table
