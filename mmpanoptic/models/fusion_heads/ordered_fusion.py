"""Fusion heads that paint instances in an order, then stuff: by score, relation or occlusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmpanoptic.models.postprocess import (
    ResizedLogits,
    check_pad_handling,
    paste_masks,
    resize_padded_logits,
)
from mmpanoptic.models.postprocess.painting import (
    FirstComeRule,
    NearestRule,
    Numbers,
    OccluderRule,
    PaintRule,
    few_numbers,
    paint_in_order,
    release_hidden,
)
from mmpanoptic.models.postprocess.segments import (
    list_segments,
    number_segments,
    segment_rows,
    segment_statistics,
)
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import (
    BoxedMasks,
    SegmentInfo,
    as_tensor_on,
    make_panoptic_data,
    semantic_map,
)


class PaintFusionHead(BaseModule):
    """What the three fusion heads have in common; they differ in their rule.

    Panoptic Feature Pyramid Networks (arXiv:1901.02446): instances of sufficient score are painted
    by descending score, then stuff where nothing is, if there is enough of it.

    Differences from the original: masks are pasted in windows, one after the other, into one map;
    no run-length code, no PNG. Results are equal.

    Args:
        thing_labels (Sequence[int]): Contiguous labels of the things, in the order of the
            detector's classes.
        stuff_labels (Sequence[int]): Contiguous labels of the stuff classes, in the order of the
            semantic head's channels. The channels before ``first_stuff`` and behind the last
            stuff class stay void.
        score_thr (float): Instances of smaller score are not painted.
        overlap_thr (float): Share of an instance that decides whether too much of it is covered;
            each head says how.
        stuff_area (int): Stuff classes with fewer pixels become void.
        min_visible (float): In the end, instances of which a smaller fraction is visible become
            free for stuff; 0 keeps every instance with a pixel.
        mask_mode (str): How masks are pasted, see
            :func:`mmpanoptic.models.postprocess.paste_masks`.
        pad_handling (str): What becomes of the padding of the semantic logits, see
            :func:`mmpanoptic.models.postprocess.resize_padded_logits`.
        align_corners (bool): As in the semantic head.
        first_stuff (int): Channel of the first stuff class: 1 behind void, or its label for a head
            of all classes (EfficientPS's).
        predict_instances (bool): Also return ``pred_instances``, all detections with full-size
            masks, for box and mask AP.
        stride (int): Of the semantic logits, as in the semantic head.
    """

    NEEDS = {"mask_logits": "a RoI head such as PanopticRoIHead"}

    def __init__(
        self,
        thing_labels: Sequence[int],
        stuff_labels: Sequence[int],
        score_thr: float = 0.5,
        overlap_thr: float = 0.5,
        stuff_area: int = 4096,
        min_visible: float = 0.0,
        mask_mode: str = "grid_sample",
        pad_handling: str = "crop",
        align_corners: bool = True,
        first_stuff: int = 1,
        predict_instances: bool = False,
        stride: int = 4,
    ) -> None:
        super().__init__()
        check_pad_handling(pad_handling)
        self.thing_labels = tuple(thing_labels)
        self.stuff_labels = tuple(stuff_labels)
        self.score_thr = score_thr
        self.overlap_thr = overlap_thr
        self.stuff_area = stuff_area
        self.min_visible = min_visible
        self.mask_mode = mask_mode
        self.pad_handling = pad_handling
        self.align_corners = align_corners
        self.first_stuff = first_stuff
        self.predict_instances = predict_instances
        self.stride = stride

    def make_rule(self, instances: InstanceData, masks: BoxedMasks) -> PaintRule:
        """Make the rule for the instances of one image.

        Args:
            instances (InstanceData): Those of sufficient score, by descending score.
            masks (BoxedMasks): Their masks.

        Returns:
            PaintRule: See :mod:`mmpanoptic.models.postprocess.painting`.
        """
        raise NotImplementedError

    def paint_order(self, instances: InstanceData, masks: BoxedMasks) -> list[int]:
        """Choose the order of painting; by descending score here.

        Args:
            instances (InstanceData): Those of sufficient score, by descending score.
            masks (BoxedMasks): Their masks.

        Returns:
            list[int]: Positions in ``instances``.
        """
        return list(range(len(masks)))

    def semantic_channels(self, logits: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Find the channel of each pixel of the result.

        Args:
            logits (Tensor): Of one image, ``(C, h, w)``, padding included.
            meta (Mapping): ``img_shape`` and ``ori_shape``.

        Returns:
            Tensor: int64 ``(H, W)``.
        """
        return resize_padded_logits(
            logits, meta, self.pad_handling, self.stride, self.align_corners
        ).classes()

    @torch.no_grad()
    def predict(
        self,
        sem_outputs: Tensor,
        ins_outputs: Sequence[InstanceData],
        batch_img_metas: Sequence[Mapping[str, Any]],
    ) -> list[dict[str, Any]]:
        """Form the results of a batch, one image after the other to bound the memory.

        Args:
            sem_outputs (Tensor): Logits ``(N, C, h, w)`` at ``stride``, padding included.
            ins_outputs (Sequence[InstanceData]): Of each image ``bboxes`` (float32 ``(K, 4)`` in
                pixels of the result), ``scores``, ``labels`` (position in ``thing_labels``),
                ``mask_logits`` ``(K, m, m)``, and what the rule needs.
            batch_img_metas (Sequence[Mapping]): ``img_shape`` (height and width without padding)
                and ``ori_shape`` (size of the result, ``img_shape`` if absent) of each image.

        Returns:
            list[dict]: ``pred_panoptic_seg``, ``pred_sem_seg`` (painted from it) and, with
            ``predict_instances``, ``pred_instances`` of each image.
        """
        results = []
        with torch.autocast(sem_outputs.device.type, enabled=False):
            for logits, found, meta in zip(sem_outputs, ins_outputs, batch_img_metas, strict=True):
                channels = self.semantic_channels(logits, meta)
                results.append(self.predict_single(channels, found))
        return results

    def predict_single(self, channels: Tensor, found: InstanceData) -> dict[str, Any]:
        """Form the result of one image.

        Args:
            channels (Tensor): int64 ``(H, W)``, channel of each pixel.
            found (InstanceData): See :meth:`predict`.

        Returns:
            dict: See :meth:`predict`.
        """
        size = (int(channels.shape[0]), int(channels.shape[1]))
        kept = select_by_score(found, self.score_thr)
        masks = self.paste(kept, size)
        index_map, segments = self.fuse(kept, masks, channels)
        panoptic = make_panoptic_data(index_map, segments)
        pred_sem_seg = PixelData()
        pred_sem_seg.sem_seg = semantic_map(panoptic)
        result: dict[str, Any] = {"pred_panoptic_seg": panoptic, "pred_sem_seg": pred_sem_seg}
        if self.predict_instances:
            labels = as_tensor_on(found.labels, self.thing_labels)[found.labels]
            full = self.paste(found, size).to_full()
            # Boxes of the legacy convention end at their last pixel, those of the result behind it.
            end = 1.0 if self.mask_mode == "legacy" else 0.0
            bboxes = found.bboxes + as_tensor_on(found.bboxes, [0.0, 0.0, end, end])
            result["pred_instances"] = InstanceData(
                bboxes=bboxes, scores=found.scores, labels=labels, masks=full
            )
        return result

    def paste(self, instances: InstanceData, size: tuple[int, int]) -> BoxedMasks:
        """Bring the masks of instances to the pixels of an image of ``(H, W)``."""
        values = instances.mask_logits.float().sigmoid()
        return paste_masks(values, instances.bboxes, size, self.mask_mode)

    def fuse(
        self, instances: InstanceData, masks: BoxedMasks, channels: Tensor
    ) -> tuple[Tensor, list[SegmentInfo]]:
        """Paint instances and stuff into one map.

        Args:
            instances (InstanceData): Those of sufficient score, by descending score.
            masks (BoxedMasks): Their binary masks.
            channels (Tensor): int64 ``(H, W)``, channel of each pixel.

        Returns:
            tuple: int32 map ``(H, W)``, 0 is void, and the segments 1, 2, ...: instances in the
            order of painting, then stuff by channel.
        """
        order = self.paint_order(instances, masks)
        painting = paint_in_order(masks, self.make_rule(instances, masks), order)
        if self.min_visible > 0:
            release_hidden(painting, self.min_visible)
        first, count = self.first_stuff, len(self.stuff_labels)
        # One more: the last entry stands for all channels behind the stuff.
        is_stuff = torch.zeros(first + count + 1, dtype=torch.bool, device=channels.device)
        is_stuff[first : first + count] = True
        index_map, number = number_segments(
            painting.owner, painting.visible, order, channels, is_stuff, self.stuff_area
        )
        things = as_tensor_on(instances.labels, self.thing_labels)[instances.labels]
        stuff = as_tensor_on(things, self.stuff_labels)
        start = len(instances) + first
        number = torch.cat([number[: len(instances)], number[start : start + count]])
        label = torch.cat([things, stuff])
        score = torch.cat([instances.scores.double(), stuff.new_ones(count, dtype=torch.float64)])
        found = segment_statistics(index_map, len(number)).of(number)
        rows = segment_rows(number, label, score, found.area, found.box)
        return index_map, list_segments([rows], self.thing_labels)[0]


def select_by_score(found: InstanceData, score_thr: float) -> InstanceData:
    """Keep the instances of sufficient score, the best first; equal scores keep their order."""
    scores, order = torch.sort(found.scores, descending=True, stable=True)
    return found[order[scores >= score_thr]]


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
        area_order_thr (float): Score above which instances are ordered by their area.
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
        confident = instances.scores > self.area_order_thr
        rows = torch.stack([~confident, masks.areas() * confident], 1).tolist()
        return sorted(range(len(rows)), key=rows.__getitem__)


@MODELS.register_module()
class LabelResizeFusionHead(HeuristicFusionHead):
    """Choose the class of each pixel of the network's input, then resize the map of classes.

    Auto-Panoptic (arXiv:2010.16119), as published: nearest neighbour as Pillow does it.
    :class:`HeuristicFusionHead` resizes logits instead; that is smoother along the borders of
    segments.

    Differences from the original: none in the numbers.

    Args:
        **options (Any): Arguments of :class:`HeuristicFusionHead`; ``pad_handling`` must be "crop".

    Raises:
        ValueError: If ``pad_handling`` is another.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.pad_handling != "crop":
            raise ValueError(
                "LabelResizeFusionHead cuts the padding off before it resizes; pad_handling must "
                f'be "crop", got {self.pad_handling!r}; HeuristicFusionHead knows others'
            )

    def semantic_channels(self, logits: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Find the channel of each pixel of the result.

        Args:
            logits (Tensor): Of one image, ``(C, h, w)``, padding included.
            meta (Mapping): ``img_shape`` and ``ori_shape``.

        Returns:
            Tensor: int64 ``(H, W)``.
        """
        height, width = (int(length) for length in meta["img_shape"][:2])
        out_height, out_width = meta.get("ori_shape", meta["img_shape"])[:2]
        # Enlarged with aligned corners; the second resizing is none.
        full = ResizedLogits(logits, self.stride, (height, width), (height, width), (True, False))
        rows = nearest_cells(height, int(out_height), logits.device)
        columns = nearest_cells(width, int(out_width), logits.device)
        return full.classes().index_select(0, rows).index_select(1, columns)


def nearest_cells(length: int, new_length: int, device: torch.device) -> Tensor:
    """Tell which entry Pillow's nearest-neighbour resizing takes at each new position.

    Args:
        length (int): Entries before.
        new_length (int): Entries after.
        device (torch.device): Of the result.

    Returns:
        Tensor: int64 ``(new_length,)``.
    """
    step = length / new_length
    steps = torch.full((new_length,), step, dtype=torch.float64)
    steps[:1] = step / 2
    # Pillow adds the step again and again, whose rounding decides where a centre lies on an edge.
    return steps.cumsum(0).long().clamp_(max=length - 1).to(device, non_blocking=True)


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
        overlap_thr (float): Of an instance more than this share may not be covered by its class,
            and more than this share must be visible.
        large_overlap_thr (float): Of two instances that cover each other by this share, one is
            skipped.
        score_thr (float): Instances of smaller score are not painted.
        **options (Any): Further arguments of :class:`PaintFusionHead`.
    """

    NEEDS = {
        **PaintFusionHead.NEEDS,
        "relation_values": "a RelationRoIHead with a relation_head",
    }

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
        pair_thr (float): Share that two instances must have in common to be asked about.
        occlusion_thr (float): Probability above which an instance lies on another.
        **options (Any): Arguments of :class:`PaintFusionHead`.
    """

    NEEDS = {
        **PaintFusionHead.NEEDS,
        "occlusion": "a RelationRoIHead with an occlusion_head",
    }

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
    windows = np.array(masks.host_windows, dtype=np.int64).reshape(-1, 4)
    start = np.maximum(windows[:, None, :2], windows[None, :, :2])
    end = np.minimum(windows[:, None, 2:], windows[None, :, 2:])
    pairs = np.argwhere(np.tril((start < end).all(2), -1))
    candidates = as_tensor_on(masks.windows, pairs.tolist()).view(-1, 2)
    if not len(pairs):
        return candidates
    boxes = np.concatenate([start, end], 2)[pairs[:, 0], pairs[:, 1]].tolist()
    # NumPy's small operations cost a quarter of PyTorch's; on a GPU nothing may wait.
    crops = {k: few_numbers(masks.crop(k)) for k in np.unique(pairs).tolist()}
    common = [
        (_cut(masks, crops, later, box) & _cut(masks, crops, earlier, box)).any()
        for (later, earlier), box in zip(pairs.tolist(), boxes, strict=True)
    ]
    if candidates.device.type == "cpu":
        return candidates[torch.tensor(common)]
    return candidates[torch.stack(common)]


def _cut(masks: BoxedMasks, crops: Mapping[int, Numbers], k: int, box: Sequence[int]) -> Numbers:
    """Return the part of mask k inside a box (x0, y0, x1, y1) of its window."""
    left, top = masks.host_windows[k][:2]
    return crops[k][box[1] - top : box[3] - top, box[0] - left : box[2] - left]
