"""Choice of the pyramid level by Detectron's rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules import SamplingResult
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmpanoptic.models.task_modules import inclusive_area
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import as_tensor_on

from .pooled_masks import PooledMasks


@MODELS.register_module()
class DetectronRoIExtractor(SingleRoIExtractor):
    """Pool each box from one level of the pyramid, chosen by its area with inclusive ends.

    Differences from the original (``mmdet.SingleRoIExtractor``): the area counts both ends (+1),
    and the constant against log2(0) is added at the scale of the canonical box.

    Args:
        roi_layer (dict): Config of the pooling; published weights expect ``mmcv.RoIAlign`` with
            ``sampling_ratio=2, aligned=False``.
        out_channels (int): Channels of the features.
        featmap_strides (Sequence[int]): Pixels per cell of the levels in use.
        canonical_size (int): Side of the square box that belongs to ``canonical_level``.
        canonical_level (int): Position of its level in ``featmap_strides``.
    """

    def __init__(
        self,
        roi_layer: dict,
        out_channels: int,
        featmap_strides: Sequence[int],
        canonical_size: int = 224,
        canonical_level: int = 2,
    ) -> None:
        super().__init__(roi_layer, out_channels, list(featmap_strides))
        self.canonical_size = canonical_size
        self.canonical_level = canonical_level

    def map_roi_levels(self, rois: Tensor, num_levels: int) -> Tensor:
        """Choose the level of each box.

        Args:
            rois (Tensor): ``(K, 5)``: image, x0, y0, x1, y1.
            num_levels (int): Number of levels.

        Returns:
            Tensor: int64 ``(K,)``, 0 is the finest level.
        """
        side = inclusive_area(rois[:, 1:]).sqrt()
        level = self.canonical_level + torch.log2(side / self.canonical_size + 1e-6)
        return level.floor().clamp(0, num_levels - 1).long()


@MODELS.register_module()
class PanopticRoIHead(StandardRoIHead):
    """Classify boxes and predict a small mask in each.

    Subclasses add heads that see the pooled mask feature of every instance (relation, occlusion):
    they name the modules in ``EXTRA_HEADS`` and override :meth:`extra_losses` and
    :meth:`add_predictions`.

    Differences from the original (``mmdet.StandardRoIHead``): masks are not pasted, since the
    fusion head pastes only what it keeps; boxes are pooled in float32 under autocast too (bfloat16
    coordinates would be off by up to 4 pixels).

    Args:
        bbox_roi_extractor (dict): Config of the pooling for boxes.
        bbox_head (dict): Config of the box head.
        mask_roi_extractor (dict): Config of the pooling for masks.
        mask_head (dict): Config of the mask head.
        train_cfg (dict | None): ``assigner``, ``sampler``, ``mask_size``, ``pos_weight``.
        test_cfg (dict | None): ``score_thr``, ``nms``, ``max_per_img``.
        init_cfg (dict | list | None): Initialisation.
    """

    EXTRA_HEADS: tuple[str, ...] = ()
    """Names of the child modules that :class:`TwoStagePanopticSegmentor` can train alone."""

    GIVES: tuple[str, ...] = ("mask_logits",)

    def __init__(
        self,
        bbox_roi_extractor: dict,
        bbox_head: dict,
        mask_roi_extractor: dict,
        mask_head: dict,
        train_cfg: Any = None,
        test_cfg: Any = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(
            bbox_roi_extractor=bbox_roi_extractor,
            bbox_head=bbox_head,
            mask_roi_extractor=mask_roi_extractor,
            mask_head=mask_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )
        take_own_precision(self.bbox_head)
        take_own_precision(self.mask_head)

    def extra_losses(
        self,
        mask_feats: Tensor,
        mask_preds: Tensor,
        sampling_results: Sequence[SamplingResult],
        batch_gt_instances: Sequence[InstanceData],
    ) -> dict[str, Tensor]:
        """Compute the losses of further heads; none here.

        Args:
            mask_feats (Tensor): Pooled features ``(P, C, m, m)`` of the positive proposals of all
                images, image by image.
            mask_preds (Tensor): Mask logits ``(P, classes, 2m, 2m)`` of these.
            sampling_results (Sequence[SamplingResult]): ``pos_gt_labels`` and
                ``pos_assigned_gt_inds`` of each image; P is the sum of their lengths.
            batch_gt_instances (Sequence[InstanceData]): The ground truth of each image.

        Returns:
            dict[str, Tensor]: Losses by name.
        """
        return {}

    def add_predictions(self, mask_feats: Tensor, results: InstanceData) -> None:
        """Let further heads add fields to the instances of one image; nothing here.

        Args:
            mask_feats (Tensor): Pooled features ``(K, C, m, m)``.
            results (InstanceData): ``bboxes`` (in pixels of the original image), ``scores``,
                ``labels`` and ``mask_logits`` of K instances.
        """

    def loss(
        self,
        x: Sequence[Tensor],
        rpn_results_list: Sequence[InstanceData],
        batch_data_samples: Sequence[DetDataSample],
    ) -> dict[str, Tensor]:
        """Compute all losses of the second stage.

        Args:
            x (Sequence[Tensor]): Feature maps, fine to coarse.
            rpn_results_list (Sequence[InstanceData]): Proposals of each image.
            batch_data_samples (Sequence[DetDataSample]): With ``gt_instances``.

        Returns:
            dict[str, Tensor]: Losses by name.
        """
        x = _in_float32(x)
        sampled = self.sample(rpn_results_list, batch_data_samples)
        truth = [sample.gt_instances for sample in batch_data_samples]
        boxes = self.bbox_loss(x, sampled)
        pooled = [InstanceData(masks=_pooled(one.masks)) for one in truth]
        masks = self.mask_loss(x, sampled, boxes["bbox_feats"], pooled)
        extra = self.extra_losses(masks["mask_feats"], masks["mask_preds"], sampled, truth)
        return {**boxes["loss_bbox"], **masks["loss_mask"], **extra}

    def loss_of_extra_heads(
        self,
        x: Sequence[Tensor],
        rpn_results_list: Sequence[InstanceData],
        batch_data_samples: Sequence[DetDataSample],
    ) -> dict[str, Tensor]:
        """Compute the losses of the further heads alone, on features without gradients.

        Args:
            x (Sequence[Tensor]): Feature maps, fine to coarse.
            rpn_results_list (Sequence[InstanceData]): Proposals of each image.
            batch_data_samples (Sequence[DetDataSample]): With ``gt_instances``.

        Returns:
            dict[str, Tensor]: Losses by name.
        """
        with torch.no_grad():
            sampled = self.sample(rpn_results_list, batch_data_samples)
            rois = bbox2roi([one.pos_priors for one in sampled])
            masks = self._mask_forward(_in_float32(x), rois)
        truth = [sample.gt_instances for sample in batch_data_samples]
        return self.extra_losses(masks["mask_feats"], masks["mask_preds"], sampled, truth)

    def sample(
        self,
        rpn_results_list: Sequence[InstanceData],
        batch_data_samples: Sequence[DetDataSample],
    ) -> list[SamplingResult]:
        """Assign proposals to ground truth and draw those that are trained on.

        Args:
            rpn_results_list (Sequence[InstanceData]): Proposals of each image.
            batch_data_samples (Sequence[DetDataSample]): With ``gt_instances``.

        Returns:
            list[SamplingResult]: Of each image.
        """
        results = []
        for proposals, sample in zip(rpn_results_list, batch_data_samples, strict=True):
            truth = sample.gt_instances
            priors = InstanceData(priors=proposals.bboxes)
            ignored = sample.get("ignored_instances")
            assigned = self.bbox_assigner.assign(priors, truth, ignored)
            results.append(self.bbox_sampler.sample(assigned, priors, truth))
        return results

    def predict(
        self,
        x: Sequence[Tensor],
        rpn_results_list: Sequence[InstanceData],
        batch_data_samples: Sequence[DetDataSample],
        rescale: bool = True,
    ) -> list[InstanceData]:
        """Detect instances.

        Args:
            x (Sequence[Tensor]): Feature maps, fine to coarse.
            rpn_results_list (Sequence[InstanceData]): Proposals of each image.
            batch_data_samples (Sequence[DetDataSample]): Metainfo ``img_shape``, ``ori_shape``.
            rescale (bool): Give boxes in pixels of the original image, not of the input.

        Returns:
            list[InstanceData]: Of each image ``bboxes`` float32 ``(K, 4)``, ``scores`` ``(K,)``,
            ``labels`` ``(K,)`` and ``mask_logits`` float32 ``(K, m, m)``, the mask of the
            predicted class inside the box.
        """
        x = _in_float32(x)
        metas = [sample.metainfo for sample in batch_data_samples]
        results = self.predict_boxes(x, rpn_results_list, metas)
        masks = self._mask_forward(x, bbox2roi([one.bboxes for one in results]))
        counts = [len(one) for one in results]
        feats = masks["mask_feats"].split(counts)
        logits = masks["mask_preds"].split(counts)
        for result, feat, logit, meta in zip(results, feats, logits, metas, strict=True):
            result.mask_logits = self._of_predicted_class(logit, result.labels)
            if rescale:
                result.bboxes = to_original_size(result.bboxes, meta)
            self.add_predictions(feat, result)
        return results

    def predict_boxes(
        self,
        x: Sequence[Tensor],
        rpn_results_list: Sequence[InstanceData],
        metas: Sequence[Mapping[str, Any]],
    ) -> list[InstanceData]:
        """Detect boxes alone.

        Args:
            x (Sequence[Tensor]): Feature maps, fine to coarse.
            rpn_results_list (Sequence[InstanceData]): Proposals of each image.
            metas (Sequence[Mapping]): ``img_shape`` of each image.

        Returns:
            list[InstanceData]: Of each image ``bboxes`` in pixels of the input, ``scores`` and
            ``labels``.
        """
        x = _in_float32(x)
        return self.predict_bbox(x, metas, rpn_results_list, self.test_cfg, rescale=False)

    def predict_masks(self, x: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Predict the masks of given boxes of one image.

        Args:
            x (Sequence[Tensor]): Feature maps ``(1, C, h, w)``, fine to coarse.
            boxes (Tensor): ``(K, 4)``, in pixels of the input.
            labels (Tensor): ``(K,)``.

        Returns:
            Tensor: Logits ``(K, m, m)``.
        """
        masks = self._mask_forward(_in_float32(x), bbox2roi([boxes]))
        return self._of_predicted_class(masks["mask_preds"], labels)

    def _of_predicted_class(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.mask_head.class_agnostic:
            return logits[:, 0]
        return logits[torch.arange(len(labels), device=labels.device), labels]

    def _bbox_forward(self, x: Sequence[Tensor], rois: Tensor) -> dict[str, Tensor]:
        results = super()._bbox_forward(x, rois)
        for name in ("cls_score", "bbox_pred"):
            results[name] = results[name].float()
        return results

    def _mask_forward(
        self,
        x: Sequence[Tensor],
        rois: Tensor | None = None,
        pos_inds: Tensor | None = None,
        bbox_feats: Tensor | None = None,
    ) -> dict[str, Tensor]:
        results = super()._mask_forward(x, rois, pos_inds, bbox_feats)
        results["mask_preds"] = results["mask_preds"].float()
        return results


def take_own_precision(head: nn.Module) -> None:
    """Let a head whose weights have another type than float32 take pooled features as its own."""
    head.register_forward_pre_hook(_in_own_precision)


def _in_own_precision(head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    dtype = next(head.parameters()).dtype
    return tuple(
        value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for value in inputs
    )


def to_original_size(boxes: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """Scale boxes ``(K, 4)`` from pixels of the input to those of the original image."""
    height, width = meta["img_shape"][:2]
    ori_height, ori_width = meta.get("ori_shape", meta["img_shape"])[:2]
    factor = as_tensor_on(boxes, [ori_width / width, ori_height / height])
    return boxes * factor.repeat(2)


def _pooled(masks: Any) -> PooledMasks:
    """Turn the masks of the data pipeline, and refuse others than mmdet's."""
    if not isinstance(masks, BitmapMasks):
        raise ValueError(
            f"the masks of gt_instances are {type(masks).__name__}, but mask heads train on "
            'bitmaps; set PackPanopticInputs(mask_format="bitmap") in the pipeline'
        )
    return PooledMasks(masks.masks, masks.height, masks.width)


def _in_float32(feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(feat.float() for feat in feats)
