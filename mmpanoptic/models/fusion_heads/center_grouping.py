"""Fusion head of Panoptic-DeepLab: centre grouping and majority vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmpanoptic.models.layers import resize_bilinear, upsample_to_image
from mmpanoptic.models.postprocess import ResizedLogits
from mmpanoptic.models.postprocess.augmented import AVERAGES, AveragedOutputs, MeanLogits
from mmpanoptic.models.postprocess.centers import (
    find_centers,
    find_centers_padded,
    group_things,
    group_things_padded,
)
from mmpanoptic.models.postprocess.flips import flipped_dims
from mmpanoptic.models.postprocess.segments import (
    SegmentTable,
    list_segments,
    mean_class_probability,
    merge_segments,
    segment_rows,
    segment_statistics,
)
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import SegmentInfo, make_panoptic_data

SCORE_MODES = ("product", "semantic", "center")
CENTER_SCORES = ("centroid", "peak")
UNSURE = -1
"""Number of all segments of an image that has to be grouped again."""


class GroupedImage(NamedTuple):
    """One image after the grouping, all on its device.

    Attributes:
        semantic (Tensor): int64 classes ``(H, W)``.
        index_map (Tensor): int32 ``(H, W)``, segment of each pixel.
        rows (Tensor): What is known of the segments, see ``segments.segment_rows``.
        heads (PixelData | None): The head's outputs where the result keeps them.
        outputs (FullSizeOutputs | AveragedOutputs): What it was made of.
    """

    semantic: Tensor
    index_map: Tensor
    rows: Tensor
    heads: PixelData | None
    outputs: Any


@dataclass
class FullSizeOutputs:
    """Network outputs of one image at the size of the result.

    Full-size arrays are computed when they are asked for and not kept: together they would be
    the largest part of the memory.

    Attributes:
        semantic (ResizedLogits): Logits ``(C, H, W)``, of which only parts are computed.
        center (Tensor): ``(H, W)`` heatmap.
        small_offset (Tensor): ``(2, h, w)``, offsets in pixels of the image.
        rescale_offsets (bool): Multiply offsets by the ratio of output size to input size.
    """

    semantic: ResizedLogits
    center: Tensor
    small_offset: Tensor
    rescale_offsets: bool = True

    @property
    def logits(self) -> Tensor:
        """All logits ``(C, H, W)``; the post-processing does without them."""
        return self.semantic.dense()

    @property
    def offset(self) -> Tensor:
        """Offsets ``(2, H, W)``, (dy, dx) in pixels of the result."""
        img_shape, out_shape = self.semantic.img_shape, self.semantic.out_shape
        full = upsample_to_image(self.small_offset[None], self.semantic.stride, img_shape)
        full = resize_bilinear(full, out_shape)[0]
        if self.rescale_offsets and img_shape != out_shape:
            for values, new, old in zip(full, out_shape, img_shape, strict=True):
                values *= new / old
        return full


@MODELS.register_module()
class CenterGroupingHead(BaseModule):
    """Form a panoptic map from class logits, a centre heatmap and an offset field.

    Panoptic-DeepLab (arXiv:1911.10194), section 3.1.

    Differences from the original (detectron2's Panoptic-DeepLab project), all of them in cost or
    in cases where it fails, unless an option says otherwise: only thing pixels are grouped, in
    blocks; votes, areas and boxes come from histograms, so nothing loops over instances; offset
    values are scaled along when the result is resized (``rescale_offsets=False`` restores the
    published numbers); empty results are well-formed.

    Args:
        num_classes (int): Number of classes C.
        thing_labels (Sequence[int]): Contiguous labels of the things.
        stride (int): Pixels per cell of the heads' outputs.
        stuff_area (int): Stuff classes with fewer pixels become void.
        threshold (float): The heatmap is strictly larger at centres.
        nms_kernel (int): Side of the window of the heatmap's non-maximum suppression, odd.
        top_k (int | None): Limit of the number of centres; see :func:`find_centers`.
        stable_top_k (bool): Keep exactly the best ``top_k``; see :func:`find_centers`.
        rescale_offsets (bool): Multiply offsets by the ratio of output size to input size.
        score_mode (str): Score of things: "semantic" is the mean probability of the class over
            the mask, "center" the heatmap's value, "product" both multiplied.
        center_score (str): Where "center" reads the heatmap: at the "centroid" of the mask
            (truncated), as published, or at the detected "peak".
        predict_instances (bool): Also return ``pred_instances`` with one full-size mask each.
        keep_outputs (bool): Also return ``pred_heads``, the heatmap and offsets of full size.
        tta_average (str): What test-time augmentation averages: "softmax" (probabilities) or
            "logits".

    Raises:
        ValueError: If an option is not among the allowed values.
    """

    NEEDS = {"centres and offsets": "a CenterOffsetHead"}

    def __init__(
        self,
        num_classes: int,
        thing_labels: Sequence[int],
        stride: int = 4,
        stuff_area: int = 2048,
        threshold: float = 0.1,
        nms_kernel: int = 7,
        top_k: int | None = 200,
        stable_top_k: bool = False,
        rescale_offsets: bool = True,
        score_mode: str = "product",
        center_score: str = "centroid",
        predict_instances: bool = False,
        keep_outputs: bool = False,
        tta_average: str = "softmax",
    ) -> None:
        super().__init__()
        if nms_kernel < 1 or nms_kernel % 2 == 0:
            raise ValueError(f"CenterGroupingHead: nms_kernel must be odd, got {nms_kernel}")
        if score_mode not in SCORE_MODES or center_score not in CENTER_SCORES:
            raise ValueError(
                f"CenterGroupingHead: score_mode must be one of {SCORE_MODES} and center_score "
                f"one of {CENTER_SCORES}, got {score_mode!r} and {center_score!r}"
            )
        isthing = torch.zeros(num_classes, dtype=torch.bool)
        isthing[list(thing_labels)] = True
        self.register_buffer("isthing", isthing, persistent=False)
        self.isthing: Tensor
        self.thing_labels = frozenset(thing_labels)
        self.num_classes = num_classes
        self.stride = stride
        self.stuff_area = stuff_area
        self.threshold = threshold
        self.nms_kernel = nms_kernel
        self.top_k = top_k
        self.stable_top_k = stable_top_k
        self.rescale_offsets = rescale_offsets
        self.score_mode = score_mode
        self.center_score = center_score
        self.predict_instances = predict_instances
        self.keep_outputs = keep_outputs
        if tta_average not in AVERAGES:
            raise ValueError(
                f"CenterGroupingHead: tta_average must be one of {AVERAGES}, got {tta_average!r}"
            )
        self.tta_average = tta_average

    @torch.no_grad()
    def predict(
        self, sem_outputs: Tensor, ins_outputs: Any, batch_img_metas: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Form the results of a batch, one image after the other to bound the memory.

        Args:
            sem_outputs (Tensor): Logits ``(N, C, h, w)`` at ``stride``.
            ins_outputs (CenterOffsetOutputs): Heatmap ``(N, 1, h, w)`` and offsets
                ``(N, 2, h, w)``.
            batch_img_metas (Sequence[Mapping]): ``img_shape`` (height and width without padding)
                and ``ori_shape`` (size of the result, ``img_shape`` if absent) of each image.

        Returns:
            list[dict]: Fields of each data sample: ``pred_panoptic_seg``, ``pred_sem_seg`` and,
            with ``predict_instances``, ``pred_instances``; with ``keep_outputs`` ``pred_heads``:
            ``center`` ``(1, H, W)`` and ``offset`` ``(2, H, W)`` in pixels of the result.
        """
        grouped = []
        with torch.autocast(sem_outputs.device.type, enabled=False):
            for number, meta in enumerate(batch_img_metas):
                outputs = self.resize_outputs(
                    sem_outputs[number],
                    ins_outputs.center[number],
                    ins_outputs.offset[number],
                    meta,
                )
                grouped.append(self.group(outputs))
        return self.form_results(grouped)

    @torch.no_grad()
    def predict_augmented(
        self,
        sem_outputs: Sequence[Tensor],
        ins_outputs: Sequence[Any],
        metas: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Form the result of one image from several augmentations of it.

        Args:
            sem_outputs (Sequence[Tensor]): Logits ``(C, h, w)`` of each augmentation.
            ins_outputs (Sequence[CenterOffsetOutputs]): Heatmap ``(1, h, w)`` and offsets
                ``(2, h, w)`` of each.
            metas (Sequence[Mapping]): ``img_shape`` and ``ori_shape`` as in :meth:`predict`, and
                ``flip`` and ``flip_direction``, of each.

        Returns:
            dict: See :meth:`predict`.
        """
        with torch.autocast(sem_outputs[0].device.type, enabled=False):
            parts = [
                self.resize_outputs(logits, instance.center, instance.offset, meta)
                for logits, instance, meta in zip(sem_outputs, ins_outputs, metas, strict=True)
            ]
            flips = [flipped_dims(meta) for meta in metas]
            semantic = MeanLogits([part.semantic for part in parts], flips, self.tta_average)
            return self.form_results([self.group(AveragedOutputs(semantic, parts, flips))])[0]

    def resize_outputs(
        self, logits: Tensor, center: Tensor, offset: Tensor, meta: Mapping[str, Any]
    ) -> FullSizeOutputs:
        """Enlarge the outputs of one image, cut the padding off and resize to the result's size.

        Args:
            logits (Tensor): ``(C, h, w)``.
            center (Tensor): ``(1, h, w)``.
            offset (Tensor): ``(2, h, w)``.
            meta (Mapping): See :meth:`predict`.

        Returns:
            FullSizeOutputs: In float32.
        """
        img_shape = tuple(meta["img_shape"][:2])
        out_shape = tuple(meta.get("ori_shape", img_shape)[:2])

        full_center = upsample_to_image(center[None].float(), self.stride, img_shape)
        return FullSizeOutputs(
            ResizedLogits(logits, self.stride, img_shape, out_shape),
            resize_bilinear(full_center, out_shape)[0, 0],
            offset.float() * self.stride,
            self.rescale_offsets,
        )

    def group(
        self, outputs: FullSizeOutputs | AveragedOutputs, fixed: bool | None = None
    ) -> GroupedImage:
        """Group the pixels of one image; the host does not yet ask what was found.

        On a GPU all sizes are fixed (given ``top_k``), so that the host need not wait; on a CPU
        only what is needed is computed. Both give the same result.

        Args:
            outputs (FullSizeOutputs | AveragedOutputs): Logits, heatmap and offsets.
            fixed (bool | None): Fix all sizes; None decides by the device.

        Returns:
            GroupedImage: For :meth:`form_results`.
        """
        if fixed is None:
            fixed = self._sizes_are_fixed(outputs.center.device)
        options: Any = (self.threshold, self.nms_kernel, self.top_k, self.stable_top_k)
        semantic = outputs.semantic.classes(sparse=not fixed)
        unsure = None
        if fixed:
            centers, valid = find_centers_padded(outputs.center, *options)
            instance, unsure = group_things_padded(
                semantic, centers, valid, outputs.offset, self.isthing
            )
        else:
            centers = find_centers(outputs.center, *options)
            instance = group_things(semantic, centers, outputs.offset, self.isthing)
        index_map, table = merge_segments(
            semantic, instance, len(centers), self.isthing, self.stuff_area
        )
        probability = self._class_probability(outputs.semantic, instance, table, not fixed)
        del instance
        rows = self._rows(index_map, table, probability, centers, outputs.center)
        if unsure is not None:
            rows[:, 0] = torch.where(unsure, UNSURE, rows[:, 0])
        heads = None
        if self.keep_outputs:
            heads = PixelData(center=outputs.center[None], offset=outputs.offset)
        return GroupedImage(semantic, index_map, rows, heads, outputs)

    def form_results(self, images: Sequence[GroupedImage]) -> list[dict[str, Any]]:
        """List the segments of a batch; the host waits here, once.

        Where so many centres lie so close together that a GPU did not compare all that may be the
        nearest one, it is done again without fixed sizes.

        Args:
            images (Sequence[GroupedImage]): What :meth:`group` gave.

        Returns:
            list[dict]: See :meth:`predict`.
        """
        listed = list_segments([image.rows for image in images], self.thing_labels)
        results = []
        for image, segments in zip(images, listed, strict=True):
            if segments and segments[0]["id"] == UNSURE:
                image = self.group(image.outputs, fixed=False)
                (segments,) = list_segments([image.rows], self.thing_labels)
            pred_sem_seg = PixelData()
            pred_sem_seg.sem_seg = image.semantic[None]
            result: dict[str, Any] = {
                "pred_sem_seg": pred_sem_seg,
                "pred_panoptic_seg": make_panoptic_data(image.index_map, segments),
            }
            if self.predict_instances:
                result["pred_instances"] = _make_instances(image.index_map, segments)
            if image.heads is not None:
                result["pred_heads"] = image.heads
            results.append(result)
        return results

    def _sizes_are_fixed(self, device: torch.device) -> bool:
        """Tell whether to avoid arrays whose size depends on the data."""
        return device.type != "cpu" and self.top_k is not None

    def _class_probability(
        self,
        logits: ResizedLogits | MeanLogits,
        instance: Tensor,
        table: SegmentTable,
        sparse: bool,
    ) -> Tensor:
        """Score the classes of the instances: float64 ``(K,)``."""
        label = table.label[self.num_classes :]
        if self.score_mode == "center":
            return label.new_ones(len(label), dtype=torch.float64)
        return mean_class_probability(logits, instance, label, sparse)

    def _rows(
        self,
        index_map: Tensor,
        table: SegmentTable,
        probability: Tensor,
        centers: Tensor,
        heatmap: Tensor,
    ) -> Tensor:
        """Describe the segments; stuff is not scored by the published system and gets 1."""
        found = segment_statistics(index_map, len(table.number)).of(table.number)
        score = probability
        if self.score_mode != "semantic":
            centroid = found.centroid[self.num_classes :]
            y, x = (centers if self.center_score == "peak" else centroid).unbind(1)
            score = probability * heatmap[y, x]
        score = torch.cat([score.new_ones(self.num_classes), score])
        return segment_rows(*table, score, found.area, found.box)


def _make_instances(index_map: Tensor, segments: Sequence[SegmentInfo]) -> InstanceData:
    """Cut the things out of a panoptic map.

    Args:
        index_map (Tensor): int32 ``(H, W)``.
        segments (Sequence[SegmentInfo]): All segments of the map.

    Returns:
        InstanceData: ``masks`` bool ``(N, H, W)``, ``labels`` int64, ``scores`` float32 and
        ``bboxes`` float32 ``(N, 4)`` as x0, y0, x1, y1 with exclusive ends.
    """
    device = index_map.device
    things = [segment for segment in segments if segment["isthing"]]
    numbers = torch.tensor([s["id"] for s in things], dtype=torch.int32, device=device)
    boxes = torch.tensor([s["bbox"] for s in things], device=device).view(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return InstanceData(
        masks=index_map == numbers[:, None, None],
        labels=torch.tensor([s["label"] for s in things], dtype=torch.int64, device=device),
        scores=torch.tensor([s["score"] for s in things], dtype=torch.float32, device=device),
        bboxes=boxes,
    )
