"""RoI head that also tells who lies in front of whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.task_modules import SamplingResult
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional

from mmpanoptic.models.layers import PairQuery
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import relation_matrix

from .panoptic_roi_head import PanopticRoIHead, take_own_precision


@MODELS.register_module()
class RelationRoIHead(PanopticRoIHead):
    """Mask R-CNN's second stage with a relation head, an occlusion head or both.

    RAP; OCFusion (arXiv:1906.05896). Both heads see the pooled mask feature of an instance and,
    as one more channel, the probability of the mask of one class: that of the assigned ground
    truth in training, the predicted one in inference.

    The ground truth needs ``occluders`` and ``instance_index``, see
    :func:`mmpanoptic.structures.relation_matrix`.

    Differences from the original: an image without positive proposals works.

    Args:
        relation_head (dict | None): Config of the relation head; instances get
            ``relation_values``.
        occlusion_head (dict | None): Config of the occlusion head; instances get ``occlusion``, a
            :class:`~mmpanoptic.models.layers.PairQuery`.
        relation_score_thr (float): Instances of smaller score get the relation value infinity
            unseen; the fusion head's threshold saves time, 0 ranks all.
        **options: Arguments of :class:`PanopticRoIHead`.

    Raises:
        ValueError: If there is neither a relation nor an occlusion head.
    """

    def __init__(
        self,
        relation_head: dict | None = None,
        occlusion_head: dict | None = None,
        relation_score_thr: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        heads = {"relation_head": relation_head, "occlusion_head": occlusion_head}
        self.EXTRA_HEADS = tuple(name for name, cfg in heads.items() if cfg is not None)
        if not self.EXTRA_HEADS:
            raise ValueError(
                "RelationRoIHead needs a relation_head, an occlusion_head or both; without, "
                "PanopticRoIHead does the same"
            )
        for name in self.EXTRA_HEADS:
            setattr(self, name, MODELS.build(heads[name]))
            take_own_precision(getattr(self, name))
        self.relation_score_thr = relation_score_thr
        values = {"relation_head": "relation_values", "occlusion_head": "occlusion"}
        self.GIVES = (*self.GIVES, *(values[name] for name in self.EXTRA_HEADS))

    def extra_losses(
        self,
        mask_feats: Tensor,
        mask_preds: Tensor,
        sampling_results: Sequence[SamplingResult],
        batch_gt_instances: Sequence[InstanceData],
    ) -> dict[str, Tensor]:
        """Compute the losses of the relation and occlusion head; see :class:`PanopticRoIHead`."""
        labels = torch.cat([one.pos_gt_labels for one in sampling_results])
        x = stack_mask(mask_feats, self._of_predicted_class(mask_preds, labels))
        relations = []
        for sampled, truth in zip(sampling_results, batch_gt_instances, strict=True):
            owner = sampled.pos_assigned_gt_inds
            relations.append(relation_matrix(truth)[owner][:, owner])
        losses: dict[str, Tensor] = {}
        for name in self.EXTRA_HEADS:
            losses.update(getattr(self, name).loss(x, relations))
        return losses

    def add_predictions(self, mask_feats: Tensor, results: InstanceData) -> None:
        """Add ``relation_values`` and ``occlusion``; see :class:`PanopticRoIHead`."""
        x = stack_mask(mask_feats, results.mask_logits)
        if "relation_head" in self.EXTRA_HEADS:
            seen = results.scores >= self.relation_score_thr
            values = x.new_full((len(x),), torch.inf, dtype=torch.float32)
            values[seen] = self.relation_head(x[seen]).float()
            results.relation_values = values
        if "occlusion_head" in self.EXTRA_HEADS:
            results.occlusion = PairQuery(x, self.occlusion_head)


def stack_mask(feats: Tensor, logits: Tensor) -> Tensor:
    """Append the probability of the mask to the pooled features.

    Args:
        feats (Tensor): ``(K, C, h, w)``.
        logits (Tensor): ``(K, h', w')``, larger; the largest probability in each cell counts.

    Returns:
        Tensor: ``(K, C + 1, h, w)``, the type of ``feats``.
    """
    probability = functional.adaptive_max_pool2d(logits[:, None].sigmoid(), feats.shape[-2:])
    return torch.cat([feats, probability.to(feats.dtype)], dim=1)
