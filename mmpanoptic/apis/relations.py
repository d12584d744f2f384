"""What a two-stage model detects, and who of two instances it puts in front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.fusion_heads.occlusion_order import meeting_pairs
from mmpanoptic.models.fusion_heads.paint_heads import select_by_score
from mmpanoptic.structures import BoxedMasks


@torch.no_grad()
def detect_instances(model: Any, item: Mapping[str, Any]) -> tuple[InstanceData, BoxedMasks]:
    """Run a model on one image, up to what its fusion head paints.

    Args:
        model (nn.Module): Two-stage model whose fusion head is a ``PaintFusionHead``.
        item (Mapping): Of a test dataset: ``inputs`` and ``data_samples``.

    Returns:
        tuple: The instances of sufficient score, the best first, and their masks at the size of
        the original image.
    """
    batch = {"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]}
    data = model.data_preprocessor(batch)
    outputs = model.forward_heads(data["inputs"], data["data_samples"])
    meta = data["data_samples"][0].metainfo
    height, width = meta.get("ori_shape", meta["img_shape"])[:2]
    found = select_by_score(outputs.instance[0], model.fusion_head.score_thr)
    return found, model.fusion_head.paste(found, (int(height), int(width)))


@torch.no_grad()
def is_in_front(found: InstanceData, pairs: Tensor) -> Tensor:
    """Tell whether the relation or occlusion head puts the first of each pair in front.

    Args:
        found (InstanceData): With ``relation_values`` or ``occlusion``.
        pairs (Tensor): int64 ``(P, 2)``.

    Returns:
        Tensor: bool ``(P,)``.

    Raises:
        ValueError: If the instances have neither.
    """
    first, second = pairs.unbind(1)
    if "relation_values" in found:
        return found.relation_values[first] < found.relation_values[second]
    if "occlusion" not in found:
        raise ValueError(
            "the model puts nobody in front; it needs a RelationRoIHead with a relation_head or "
            "an occlusion_head"
        )
    return found.occlusion(pairs) > found.occlusion(pairs.flip(1))


def predict_relations(found: InstanceData, masks: BoxedMasks) -> list[tuple[int, int]]:
    """Order all pairs of instances whose masks meet.

    Args:
        found (InstanceData): From :func:`detect_instances`.
        masks (BoxedMasks): From :func:`detect_instances`.

    Returns:
        list[tuple[int, int]]: Positions (front, behind).
    """
    pairs = meeting_pairs(masks)
    front = is_in_front(found, pairs)
    return [
        (a, b) if first else (b, a)
        for (a, b), first in zip(pairs.tolist(), front.tolist(), strict=True)
    ]
