"""Fusion head of models with SOLOv2: instances alone, or fused with a semantic branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional

from mmpanoptic.models.postprocess.flips import flipped_dims
from mmpanoptic.models.postprocess.solov2_selection import (
    Candidates,
    GridInstances,
    SelectionRules,
    select_candidates,
    suppress,
    suppress_neighbours,
)
from mmpanoptic.registry import MODELS


@MODELS.register_module()
class SOLOv2FusionHead(BaseModule):
    """Select SOLOv2's instances, and hand their logits to a panoptic fusion head if there is one.

    SOLOv2 (arXiv:2003.10152), section 3.5, for the selection. Without ``fusion`` the result is
    ``pred_instances`` alone, that of an instance model.

    Differences from the original, none of which changes an instance: masks are computed in
    descending order of the category score and only as long as they can enter the NMS
    (``preselect`` goes further and does change instances); masks are enlarged once, inside their
    windows; boxes are those of the masks; empty results have the usual types. Logits for the
    fusion are interpolated as logits, masks of ``pred_instances`` as probabilities.

    Args:
        thing_labels (Sequence[int]): Contiguous labels of the things; class n of the instance
            head is the n-th of them.
        num_grids (Sequence[int]): Cells per axis of each level of the instance head.
        strides (Sequence[int]): Strides of its levels; a mask must have more cells of the mask
            features than the stride of its level.
        score_thr (float): Candidates have a larger category score.
        mask_thr (float): Masks are where the probability is larger.
        nms_pre (int): So many candidates, the best by category score times maskness, enter the
            matrix NMS.
        filter_thr (float): Instances whose lowered score is smaller are dropped.
        max_per_img (int): Limit of the number of instances.
        kernel (str): Of the matrix NMS: "gaussian" or "linear".
        sigma (float): Of the Gaussian.
        preselect (bool): Compute masks only of the ``nms_pre`` best candidates by category score;
            bounds the time on crowded images and changes their results slightly.
        fusion (dict | None): Config of the panoptic fusion head, which takes instances with
            ``scores``, ``labels`` and ``mask_logits``: ``AdaptiveLogitFusionHead``.
        predict_instances (bool): Also return ``pred_instances`` where there is a ``fusion``.
    """

    mask_stride = 4

    NEEDS = {"kernels and mask features": "a SOLOv2Head"}

    def __init__(
        self,
        thing_labels: Sequence[int],
        num_grids: Sequence[int] = (40, 36, 24, 16, 12),
        strides: Sequence[int] = (8, 8, 16, 32, 32),
        score_thr: float = 0.1,
        mask_thr: float = 0.5,
        nms_pre: int = 500,
        filter_thr: float = 0.05,
        max_per_img: int = 100,
        kernel: str = "gaussian",
        sigma: float = 2.0,
        preselect: bool = False,
        fusion: dict | None = None,
        predict_instances: bool = False,
    ) -> None:
        super().__init__()
        self.num_grids = tuple(num_grids)
        self.rules = SelectionRules(
            score_thr, mask_thr, nms_pre, filter_thr, max_per_img, kernel, sigma, preselect
        )
        sides = zip(num_grids, strides, strict=True)
        min_area = torch.cat([torch.full((side**2,), float(stride)) for side, stride in sides])
        self.register_buffer("min_area", min_area, persistent=False)
        self.min_area: Tensor
        self.register_buffer("thing_labels", torch.tensor(list(thing_labels)), persistent=False)
        self.thing_labels: Tensor
        self.fusion: Any = None if fusion is None else MODELS.build(fusion)
        self.predict_instances = predict_instances

    @torch.no_grad()
    def predict(
        self,
        sem_outputs: Tensor | None,
        ins_outputs: Any,
        batch_img_metas: Sequence[Mapping[str, Any]],
    ) -> list[dict[str, Any]]:
        """Form the results of a batch, one image after the other to bound the memory.

        Args:
            sem_outputs (Tensor | None): Logits ``(N, C, h, w)``; only ``fusion`` needs them.
            ins_outputs (SOLOv2Outputs): Of the instance head.
            batch_img_metas (Sequence[Mapping]): ``img_shape`` (height and width without padding)
                and ``ori_shape`` (size of the result, ``img_shape`` if absent) of each image.

        Returns:
            list[dict]: Fields of each data sample: ``pred_instances``, and those of ``fusion``.
        """
        results = []
        for number, meta in enumerate(batch_img_metas):
            found = self.select([part[number] for part in ins_outputs], meta)
            result = self.instance_fields(found)
            if self.fusion is not None:
                instances = found.for_fusion(self.fusion.score_thr)
                image = slice(number, number + 1)
                result |= self.fusion.predict(
                    self._semantic(sem_outputs)[image], [instances], [meta]
                )[0]
            results.append(result)
        return results

    @torch.no_grad()
    def predict_augmented(
        self,
        sem_outputs: Sequence[Tensor | None],
        ins_outputs: Sequence[Any],
        metas: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Form the result of one image from several augmentations of it.

        The instances of each augmentation are brought to one grid, where they compete in one more
        matrix NMS with the scores they had before their own.

        Args:
            sem_outputs (Sequence[Tensor | None]): Logits ``(C, h, w)`` of each augmentation.
            ins_outputs (Sequence[SOLOv2Outputs]): Of each, without the first dimension.
            metas (Sequence[Mapping]): ``img_shape`` and ``ori_shape`` as in :meth:`predict`, and
                ``flip`` and ``flip_direction``, of each.

        Returns:
            dict: See :meth:`predict`.
        """
        parts = [
            to_common_grid(self.select(outputs, meta, lower=False), flipped_dims(meta))
            for outputs, meta in zip(ins_outputs, metas, strict=True)
        ]
        found = self._compete(parts)
        result = self.instance_fields(found)
        if self.fusion is not None:
            semantic = [self._semantic(logits) for logits in sem_outputs]
            instances = found.for_fusion(self.fusion.score_thr)
            result |= self.fusion.predict_augmented(semantic, instances, metas)
        return result

    def select(
        self, outputs: Sequence[Tensor], meta: Mapping[str, Any], lower: bool = True
    ) -> GridInstances:
        """Select the instances of one image.

        Args:
            outputs (Sequence[Tensor]): Category logits ``(C, P)``, kernels ``(E, P)`` and mask
                features ``(E, h, w)``.
            meta (Mapping): See :meth:`predict`.
            lower (bool): Give the instances the scores that the NMS lowered, or those before.

        Returns:
            GridInstances: The best first.
        """
        cls_logits = outputs[0]
        with torch.autocast(cls_logits.device.type, enabled=False):
            kernels, mask_feats = outputs[1].float(), outputs[2].float()
            candidates = select_candidates(
                suppress_neighbours(cls_logits, self.num_grids),
                kernels,
                mask_feats,
                self.min_area,
                self.rules,
            )
            kept, scores = suppress(candidates, self.rules)
            chosen = candidates.take(kept)
            logits = kernels[:, chosen.cells].t() @ mask_feats.flatten(1)
        img_shape = (int(meta["img_shape"][0]), int(meta["img_shape"][1]))
        out_shape = meta.get("ori_shape", img_shape)
        return GridInstances(
            scores if lower else chosen.scores,
            chosen.labels,
            logits.view(-1, *mask_feats.shape[1:]),
            self.mask_stride,
            img_shape,
            (int(out_shape[0]), int(out_shape[1])),
            self.rules.mask_thr,
        )

    def instance_fields(self, found: GridInstances) -> dict[str, Any]:
        """Make ``pred_instances`` if they are asked for.

        Args:
            found (GridInstances): Instances of one image.

        Returns:
            dict: ``pred_instances``: ``masks`` bool ``(K, H, W)``, contiguous ``labels``,
            ``scores`` and ``bboxes`` ``(K, 4)`` as x0, y0, x1, y1 with exclusive ends.
        """
        if self.fusion is not None and not self.predict_instances:
            return {}
        masks = found.masks()
        instances = InstanceData(
            masks=masks.to_full(),
            labels=self.thing_labels[found.labels],
            scores=found.scores,
            bboxes=masks.windows.float(),
        )
        return {"pred_instances": instances}

    def _semantic(self, logits: Tensor | None) -> Tensor:
        if logits is None:
            raise ValueError(
                "SOLOv2FusionHead: the model has no semantic_head, whose logits fusion needs; add "
                "one, or leave fusion out to predict instances alone"
            )
        return logits

    def _compete(self, parts: Sequence[GridInstances]) -> GridInstances:
        """Apply the matrix NMS to the instances of all augmentations."""
        scores = torch.cat([part.scores for part in parts])
        order = scores.argsort(descending=True, stable=True)[: self.rules.nms_pre]
        pool = replace(
            parts[0],
            scores=scores,
            labels=torch.cat([part.labels for part in parts]),
            logits=torch.cat([part.logits for part in parts]),
        ).take(order)
        masks = pool.logits.sigmoid().gt(self.rules.mask_thr).flatten(1)
        pool, masks = pool.take(masks.any(1)), masks[masks.any(1)]
        cells = torch.zeros_like(pool.labels)
        kept, scores = suppress(Candidates(pool.scores, pool.labels, cells, masks), self.rules)
        return replace(pool.take(kept), scores=scores)


def to_common_grid(found: GridInstances, flip: Sequence[int]) -> GridInstances:
    """Resample instances of a scaled and mirrored image to the grid of the result.

    Args:
        found (GridInstances): Of the augmented image.
        flip (Sequence[int]): Its mirrored dimensions of ``(..., H, W)``.

    Returns:
        GridInstances: On the grid of ``ceil(size / stride)`` cells of the result, which is also
        their image.
    """
    axes = []
    for dim in (-2, -1):
        cells, img, out = found.logits.shape[dim], found.img_shape[dim], found.out_shape[dim]
        count = -(-out // found.stride)
        place = (torch.arange(count, device=found.logits.device) + 0.5) * (found.stride / out)
        place = 1 - place if dim in flip else place
        axes.append(place * (2 * img / (cells * found.stride)) - 1)
    y, x = torch.meshgrid(*axes, indexing="ij")
    logits = functional.grid_sample(
        found.logits[None].float(),
        torch.stack([x, y], 2)[None],
        padding_mode="border",
        align_corners=False,
    )[0]
    return replace(found, logits=logits, img_shape=found.out_shape)
