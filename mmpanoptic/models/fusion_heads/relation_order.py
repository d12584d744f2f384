"""Fusion head of RAP."""

from __future__ import annotations

from typing import Any

from mmengine.structures import InstanceData

from mmpanoptic.registry import MODELS
from mmpanoptic.structures import BoxedMasks

from .paint_heads import PaintFusionHead
from .paint_order import few_numbers
from .paint_rules import NearestRule


@MODELS.register_module()
class RelationFusionHead(PaintFusionHead):
    """Let the nearer of two instances have the pixels that both claim.

    RAP's fusion: instances come by descending score; where one meets others, the smaller relation
    value takes the pixel, and of equal ones who was there first. Two checks keep duplicates out:
    an instance is skipped if more than ``overlap_thr`` of it is covered by instances of its class,
    or if it and an instance of any class cover each other by ``large_overlap_thr`` or more. It is
    also skipped if not more than ``overlap_thr`` of it would be visible.

    Differences from the original: see :class:`PaintFusionHead`.

    Args:
        overlap_thr (float): See above.
        large_overlap_thr (float): See above.
        score_thr (float): Instances of smaller score are not painted.
        **options (Any): Further arguments of :class:`PaintFusionHead`.
    """

    def __init__(
        self,
        overlap_thr: float = 0.6,
        large_overlap_thr: float = 0.5,
        score_thr: float = 0.6,
        **options: Any,
    ) -> None:
        super().__init__(overlap_thr=overlap_thr, score_thr=score_thr, **options)
        self.large_overlap_thr = large_overlap_thr

    def make_rule(self, instances: InstanceData, masks: BoxedMasks) -> NearestRule:
        """Make the rule.

        Args:
            instances (InstanceData): With ``relation_values`` ``(K,)``, smaller is nearer.
            masks (BoxedMasks): Their masks.

        Returns:
            NearestRule: See there.

        Raises:
            ValueError: If there are no relation values.
        """
        if "relation_values" not in instances:
            raise ValueError(
                "RelationFusionHead needs relation_values of the instances, but the RoI head "
                "gives none; use RelationRoIHead with a relation_head"
            )
        values = few_numbers(instances.relation_values.float())
        labels = few_numbers(instances.labels)
        return NearestRule(values, labels, self.overlap_thr, self.large_overlap_thr)
