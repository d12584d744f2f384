"""Fusion head of Panoptic FPN."""

from __future__ import annotations

from typing import Any

from mmengine.structures import InstanceData

from mmpanoptic.registry import MODELS
from mmpanoptic.structures import BoxedMasks

from .paint_heads import PaintFusionHead
from .paint_rules import FirstComeRule

ORDERS = ("score", "area")


@MODELS.register_module()
class HeuristicFusionHead(PaintFusionHead):
    """Let instances take what is free, the best scores first.

    Panoptic Feature Pyramid Networks (arXiv:1901.02446), section 3.2; an instance is skipped if
    more than ``overlap_thr`` of it is covered by those before it.

    Differences from the original: see :class:`PaintFusionHead`; unlike
    ``mmdet.HeuristicFusionHead`` it counts overlaps exactly, without a small constant in the area.

    Args:
        order (str): "score", or "area" of Auto-Panoptic (arXiv:2010.16119): instances of a score
            above ``area_order_thr`` come first, the smallest first; the others follow by score.
        area_order_thr (float): See ``order``.
        **options (Any): Arguments of :class:`PaintFusionHead`.

    Raises:
        ValueError: If ``order`` is unknown.
    """

    def __init__(self, order: str = "score", area_order_thr: float = 0.725, **options: Any) -> None:
        super().__init__(**options)
        if order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
        self.order = order
        self.area_order_thr = area_order_thr

    def make_rule(self, instances: InstanceData, masks: BoxedMasks) -> FirstComeRule:
        """Make the rule; see :class:`PaintFusionHead`."""
        return FirstComeRule(self.overlap_thr)

    def paint_order(self, instances: InstanceData, masks: BoxedMasks) -> list[int]:
        """Choose the order of painting; see :class:`PaintFusionHead`."""
        if self.order == "score":
            return super().paint_order(instances, masks)
        # By descending score, so those above the threshold are the first ones.
        confident = int((instances.scores > self.area_order_thr).sum())
        smallest = masks.areas()[:confident].sort(stable=True).indices.tolist()
        return [*smallest, *range(confident, len(instances))]
