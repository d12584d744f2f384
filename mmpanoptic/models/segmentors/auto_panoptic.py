"""Auto-Panoptic: a two-stage panoptic model whose branches exchange attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mmpanoptic.models.layers.attention_exchange import (
    AttentionUnits,
    modulate,
    pool_levels,
)
from mmpanoptic.registry import MODELS

from .two_stage import TwoStagePanopticSegmentor


@MODELS.register_module()
class AutoPanoptic(TwoStagePanopticSegmentor):
    """Modulate the features of each branch by attention from the other.

    Auto-Panoptic (arXiv:2010.16119), section 3. In this order: pooled instance features (all
    levels but the finest) give the channel weights "f2b" of the semantic branch; pooled semantic
    features, before they are modulated, give the weights "b2f" of the instance features; RPN and
    RoI heads run on the modulated features.

    Backbone, semantic head, mask head and both groups of attention units can be searched: without
    ``choices`` they are parts of a supernet, see :func:`mmpanoptic.models.layers.set_path`.

    Differences from the original: pooled features are computed without enlarging them first; see
    :func:`pool_levels`. Results are equal up to rounding.

    Args:
        backbone (dict): Config of the backbone.
        rpn_head (dict): Config of the region proposal network.
        roi_head (dict): Config of the RoI head.
        semantic_head (dict): Config of a ``SearchableSemanticHead``.
        thing_labels (Sequence[int]): Contiguous labels of the things.
        f2b (dict): Arguments of the attention units from instance to semantic features:
            ``in_channels`` (levels but the finest, times their channels), ``out_channels`` (width
            of the semantic branch), ``num_units`` (levels of the semantic branch), ``choices``
            and ``reductions``; see :class:`AttentionUnits`.
        b2f (dict): The same from semantic to instance features.
        neck (dict | None): Config of the neck.
        fusion_head (dict | None): Config of the fusion head; only predictions need it.
        train_cfg (dict | None): mmdet's ``rpn``, ``rpn_proposal`` and ``rcnn``; see
            :class:`TwoStagePanopticSegmentor`.
        test_cfg (dict | None): mmdet's ``rpn`` and ``rcnn``.
        inclusive_boxes (bool): Boxes end at their last pixel; see
            :class:`TwoStagePanopticSegmentor`.
        data_preprocessor (dict | nn.Module | None): Config of the data preprocessor.
        channels_last (bool): Keep weights and images with the channels last in memory.
        init_cfg (dict | list | None): Initialisation of the whole model, e.g. a checkpoint.
    """

    def __init__(
        self,
        backbone: dict,
        rpn_head: dict,
        roi_head: dict,
        semantic_head: dict,
        thing_labels: Sequence[int],
        f2b: dict,
        b2f: dict,
        neck: dict | None = None,
        fusion_head: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        inclusive_boxes: bool = False,
        data_preprocessor: dict | nn.Module | None = None,
        channels_last: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(
            backbone,
            rpn_head,
            roi_head,
            semantic_head,
            thing_labels,
            neck=neck,
            fusion_head=fusion_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            inclusive_boxes=inclusive_boxes,
            data_preprocessor=data_preprocessor,
            channels_last=channels_last,
            init_cfg=init_cfg,
        )
        self.f2b = AttentionUnits("f2b", **f2b)
        self.b2f = AttentionUnits("b2f", **b2f)

    def exchange(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Run the semantic branch and modulate both branches.

        Args:
            feats (Sequence[Tensor]): Feature maps, fine to coarse.

        Returns:
            tuple: Modulated feature maps for the RPN and the RoI head, semantic logits.
        """
        size = (feats[0].shape[2], feats[0].shape[3])
        to_semantic = self.f2b(pool_levels(feats[1:], size))
        levels = self.semantic_head.extract(feats)
        to_instance = self.b2f(pool_levels(levels, size))
        feats = [modulate(x, g) for x, g in zip(feats, to_instance, strict=True)]
        return feats, self.semantic_head.classify(levels, to_semantic)

    def instance_feats(self, feats: Sequence[Tensor]) -> Sequence[Tensor]:
        """Give the modulated feature maps; they need the layers of the semantic branch."""
        return self.exchange(feats)[0]
