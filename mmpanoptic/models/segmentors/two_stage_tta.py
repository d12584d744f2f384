"""Test-time augmentation of two-stage models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmcv.ops import batched_nms
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional

from mmpanoptic.models.postprocess.flips import flipped_dims
from mmpanoptic.registry import MODELS

from .panoptic_tta import PanopticTTAModel


class _Version(NamedTuple):
    """One augmentation of one image: features, semantic logits, boxes in the original image."""

    feats: list[Tensor]
    semantic: Tensor
    found: InstanceData
    sample: DetDataSample


@MODELS.register_module()
class TwoStageTTAModel(PanopticTTAModel):
    """Merge the boxes of all augmentations, average their masks and semantic logits, then fuse.

    Boxes of one class that overlap are one instance: its box is the mean of the boxes, weighted
    by score, its score the mean over the augmentations of the best score, so that what few of them
    see scores low. The mask head then sees the merged boxes in every augmentation.

    Args:
        iou_thr (float): Overlap from which boxes are one instance.
        max_per_img (int): Number of instances to keep.
        **options: Arguments of :class:`PanopticTTAModel`; ``module`` is a two-stage model.
    """

    def __init__(
        self, *args: Any, iou_thr: float = 0.5, max_per_img: int = 100, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.iou_thr = iou_thr
        self.max_per_img = max_per_img

    def test_step(self, data: Mapping[str, Any]) -> list[DetDataSample]:
        """Predict a batch.

        Args:
            data (Mapping): ``inputs`` and ``data_samples``: for each augmentation a list of
                images and samples.

        Returns:
            list[DetDataSample]: The samples of the first augmentation with the predictions.
        """
        augmented = []
        for inputs, samples in zip(data["inputs"], data["data_samples"], strict=True):
            batch = self.module.data_preprocessor({"inputs": inputs, "data_samples": samples})
            augmented.append(self._detect(batch["inputs"], batch["data_samples"]))
        return [self._merge(versions) for versions in zip(*augmented, strict=True)]

    def _detect(self, inputs: Tensor, samples: Sequence[DetDataSample]) -> list[_Version]:
        model = self.module
        metas = [sample.metainfo for sample in samples]
        feats, semantic = model.exchange(model.extract_feat(inputs))
        found = model.roi_head.predict_boxes(feats, model.propose(feats, metas), metas)
        versions = []
        for n, (instances, sample) in enumerate(zip(found, samples, strict=True)):
            instances.bboxes = self._map_boxes(instances.bboxes, sample.metainfo, to_input=False)
            own = [feat[n : n + 1] for feat in feats]
            versions.append(_Version(own, semantic[n], instances, sample))
        return versions

    def _map_boxes(self, boxes: Tensor, meta: Mapping[str, Any], to_input: bool) -> Tensor:
        """Map boxes ``(K, 4)`` between the input (scaled, mirrored) and the original image."""
        input_size, original = meta["img_shape"][:2], meta.get("ori_shape", meta["img_shape"])[:2]
        source, target = (original, input_size) if to_input else (input_size, original)
        factor = boxes.new_tensor([target[1] / source[1], target[0] / source[0]]).repeat(2)
        if not to_input:
            boxes = self._mirror(boxes, meta, input_size)
        boxes = boxes * factor
        return self._mirror(boxes, meta, input_size) if to_input else boxes

    def _mirror(self, boxes: Tensor, meta: Mapping[str, Any], size: Sequence[int]) -> Tensor:
        height, width = size
        x0, y0, x1, y1 = boxes.unbind(1)
        end = self.module.box_end
        flipped = flipped_dims(meta)
        if -1 in flipped:
            x0, x1 = width - end - x1, width - end - x0
        if -2 in flipped:
            y0, y1 = height - end - y1, height - end - y0
        return torch.stack([x0, y0, x1, y1], dim=1)

    def _merge(self, versions: Sequence[_Version]) -> DetDataSample:
        """Fuse the augmentations of one image."""
        merged = merge_boxes([one.found for one in versions], self.iou_thr, self.max_per_img)
        total: Tensor | int = 0
        for one in versions:
            meta = one.sample.metainfo
            boxes = self._map_boxes(merged.bboxes, meta, to_input=True)
            logits = self.module.roi_head.predict_masks(one.feats, boxes, merged.labels)
            total = total + logits.flip(flipped_dims(meta))
        merged.mask_logits = total / len(versions)
        fields = self.module.fusion_head.predict_augmented(
            [one.semantic for one in versions],
            merged,
            [one.sample.metainfo for one in versions],
        )
        sample = versions[0].sample
        for name, value in fields.items():
            setattr(sample, name, value)
        return sample


def merge_boxes(found: Sequence[InstanceData], iou_thr: float, max_per_img: int) -> InstanceData:
    """Merge the boxes of several augmentations of one image.

    Args:
        found (Sequence[InstanceData]): ``bboxes``, ``scores`` and ``labels`` of each.
        iou_thr (float): Overlap from which boxes of a class are one instance.
        max_per_img (int): Number of instances to keep.

    Returns:
        InstanceData: ``bboxes``, ``scores`` and ``labels`` of the merged instances by descending
        score.
    """
    boxes = torch.cat([one.bboxes for one in found])
    scores = torch.cat([one.scores for one in found])
    labels = torch.cat([one.labels for one in found])
    if not len(boxes):
        return InstanceData(bboxes=boxes, scores=scores, labels=labels)
    nms = {"type": "nms", "iou_threshold": iou_thr}
    _, kept = batched_nms(boxes, scores, labels, nms)
    overlap = bbox_overlaps(boxes[kept], boxes) * (labels[kept][:, None] == labels)
    # Each box votes for the instance that it overlaps most.
    chosen = overlap == overlap.amax(0)
    votes = (chosen & (overlap >= iou_thr)) * scores
    parts = votes.split([len(one.labels) for one in found], dim=1)
    best = [functional.pad(part, (0, 1)).amax(1) for part in parts]  # 0 where nothing is found
    total = votes.sum(1, keepdim=True).clamp(min=torch.finfo(votes.dtype).tiny)
    merged = InstanceData(
        bboxes=votes @ boxes / total, scores=torch.stack(best).mean(0), labels=labels[kept]
    )
    order = merged.scores.argsort(descending=True, stable=True)[:max_per_img]
    return merged[order]
