"""Fusion head of OCFusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.registry import MODELS
from mmpanoptic.structures import BoxedMasks

from .paint_heads import PaintFusionHead
from .paint_order import Numbers, few_numbers
from .paint_rules import OccluderRule


@MODELS.register_module()
class OcclusionFusionHead(PaintFusionHead):
    """Ask for each pair of overlapping instances who lies on whom.

    OCFusion (arXiv:1906.05896), algorithm 1, as RAP implements it: instances come by descending
    score and take what is free. From an instance that they overlap by ``pair_thr`` (of themselves,
    or of what is visible of it) they take the common pixels, too, if the occlusion head says that
    they lie on it. An instance is skipped if not more than ``overlap_thr`` of it would be visible.

    Differences from the original: only pairs of sufficient score whose masks meet are asked about,
    and only in the direction that the fusion needs; the original evaluates all. The overlap of
    pairs is an option.

    Args:
        pair_thr (float): See above.
        occlusion_thr (float): Probability above which an instance lies on another.
        **options (Any): Arguments of :class:`PaintFusionHead`.
    """

    def __init__(self, pair_thr: float = 0.2, occlusion_thr: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.pair_thr = pair_thr
        self.occlusion_thr = occlusion_thr

    def make_rule(self, instances: InstanceData, masks: BoxedMasks) -> OccluderRule:
        """Make the rule.

        Args:
            instances (InstanceData): With ``occlusion``, a
                :class:`~mmpanoptic.models.layers.PairQuery` for the probability that the first of
                a pair lies on the second.
            masks (BoxedMasks): Their masks.

        Returns:
            OccluderRule: See there.

        Raises:
            ValueError: If there is nobody to ask.
        """
        if "occlusion" not in instances:
            raise ValueError(
                "OcclusionFusionHead asks for the occlusion of pairs, but the RoI head gives no "
                "answers; use RelationRoIHead with an occlusion_head"
            )
        occludes = torch.zeros(len(masks), len(masks), dtype=torch.bool, device=masks.values.device)
        pairs = meeting_pairs(masks)
        if len(pairs):
            occludes[pairs[:, 0], pairs[:, 1]] = instances.occlusion(pairs) > self.occlusion_thr
        return OccluderRule(few_numbers(occludes), self.overlap_thr, self.pair_thr)


def meeting_pairs(masks: BoxedMasks) -> Tensor:
    """Find the pairs of masks with a common pixel.

    Args:
        masks (BoxedMasks): K masks.

    Returns:
        Tensor: int64 ``(P, 2)``, the later mask first.
    """
    windows = masks.windows
    start = torch.maximum(windows[:, None, :2], windows[None, :, :2])
    end = torch.minimum(windows[:, None, 2:], windows[None, :, 2:])
    candidates = (start < end).all(2).tril(-1).nonzero()
    if not len(candidates):
        return candidates
    boxes = torch.cat([start, end], 2)[candidates[:, 0], candidates[:, 1]].tolist()
    # NumPy's small operations cost a quarter of PyTorch's; on a GPU nothing may wait.
    crops = {k: few_numbers(masks.crop(k)) for k in candidates.unique().tolist()}
    common = [
        (_cut(masks, crops, later, box) & _cut(masks, crops, earlier, box)).any()
        for (later, earlier), box in zip(candidates.tolist(), boxes, strict=True)
    ]
    if candidates.device.type == "cpu":
        return candidates[torch.tensor(common)]
    return candidates[torch.stack(common)]


def _cut(masks: BoxedMasks, crops: Mapping[int, Numbers], k: int, box: Sequence[int]) -> Numbers:
    """Return the part of mask k inside a box (x0, y0, x1, y1) of its window."""
    left, top = masks.host_windows[k][:2]
    return crops[k][box[1] - top : box[3] - top, box[0] - left : box[2] - left]
