"""Auto-Panoptic's exchange between the branches and its merge, as they are published.

Plain re-statements: every feature map is enlarged before it is pooled, concatenated or classified.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def enlarge(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear with aligned corners."""
    return functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def exchange(model: nn.Module, feats: Sequence[Tensor]) -> dict[str, list[Tensor] | Tensor]:
    """Run the semantic branch, the attention of both branches and the classifier.

    Args:
        model (nn.Module): An ``AutoPanoptic``; its modules are taken, not its methods.
        feats (Sequence[Tensor]): P2 to P6.

    Returns:
        dict: ``f2b_attention``, ``b2f_attention``, ``segfeat`` (enlarged), ``fused`` and
        ``score``.
    """
    head = model.semantic_head
    semantic = []
    for x in feats[: head.num_levels]:
        for layer in head.layers:
            x = layer(x)
        semantic.append(x)
    result = attend(model, feats, semantic)
    result["fused"] = modulate(feats, result["b2f_attention"])
    result["score"] = classify(model, result)
    return result


def modulate(feats: Sequence[Tensor], attention: Sequence[Tensor]) -> list[Tensor]:
    """Compute x + g x."""
    return [x + g[:, :, None, None] * x for x, g in zip(feats, attention, strict=True)]


def classify(model: nn.Module, attended: dict) -> Tensor:
    """Modulate the enlarged semantic features, concatenate and classify them."""
    levels = modulate(attended["segfeat"], attended["f2b_attention"])
    return model.semantic_head.score(torch.cat(levels, 1))


def attend(model: nn.Module, feats: Sequence[Tensor], semantic: Sequence[Tensor]) -> dict:
    """Enlarge the features of both branches, concatenate them and pool."""
    size = feats[0].shape[2:]
    from_instances = torch.cat([enlarge(x, size) for x in feats[1:]], 1)
    enlarged = [enlarge(x, size) for x in semantic]
    return {
        "segfeat": enlarged,
        "f2b_attention": model.f2b(from_instances.mean((2, 3))),
        "b2f_attention": model.b2f(torch.cat(enlarged, 1).mean((2, 3))),
    }


def merge(
    masks: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    semantic: np.ndarray,
    confident: float = 0.725,
    score_thr: float = 0.5,
    overlap_thr: float = 0.5,
    stuff_area: int = 4096,
) -> tuple[np.ndarray, list[tuple[bool, int]]]:
    """Paint confident instances by area, the others by score, then stuff.

    Args:
        masks (np.ndarray): bool ``(K, H, W)``.
        scores (np.ndarray): ``(K,)``.
        labels (np.ndarray): ``(K,)``.
        semantic (np.ndarray): ``(H, W)``, 0 for no stuff.
        confident (float): Instances above are confident.
        score_thr (float): Instances below are left out.
        overlap_thr (float): Largest covered fraction of an instance.
        stuff_area (int): Smallest stuff segment.

    Returns:
        tuple: Map ``(H, W)`` of segments from 1, 0 is void; (is thing, label) of each segment.
    """
    areas = masks.sum((1, 2))
    by_score = sorted(range(len(masks)), key=lambda k: -scores[k])  # also among equal areas
    chosen = [k for k in by_score if scores[k] >= score_thr]
    first = sorted((k for k in chosen if scores[k] > confident), key=lambda k: areas[k])
    rest = [k for k in chosen if scores[k] <= confident]
    result = np.zeros(semantic.shape, np.int32)
    used = np.zeros(semantic.shape, bool)
    segments = []
    for k in first + rest:
        if areas[k] == 0 or (masks[k] & used).sum() / areas[k] > overlap_thr:
            continue
        segments.append((True, int(labels[k])))
        result[masks[k] & ~used] = len(segments)
        used |= masks[k]
    for label in range(1, int(semantic.max()) + 1):
        free = (semantic == label) & (result == 0)
        if free.sum() >= stuff_area:
            segments.append((False, label))
            result[free] = len(segments)
    return result, segments
