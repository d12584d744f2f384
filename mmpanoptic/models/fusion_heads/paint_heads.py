"""Base of the fusion heads that paint one instance after the other, then stuff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmpanoptic.models.layers import check_pad_handling, paste_masks, resize_padded_logits
from mmpanoptic.structures import BoxedMasks, SegmentInfo, make_panoptic_data, semantic_map

from .paint_order import PaintRule, number_segments, paint_in_order, release_hidden
from .panoptic_merge import list_segments, segment_columns, segment_statistics


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
        overlap_thr (float): See the rule.
        stuff_area (int): Stuff classes with fewer pixels become void.
        min_visible (float): In the end, instances of which a smaller fraction is visible become
            free for stuff; 0 keeps every instance with a pixel.
        mask_mode (str): How masks are pasted, see :func:`mmpanoptic.models.layers.paste_masks`.
        mask_thr (float): Probability at which masks start.
        stride (int): Pixels per cell of the semantic logits.
        pad_handling (str): What becomes of the padding of the semantic logits, see
            :func:`mmpanoptic.models.layers.resize_padded_logits`.
        first_stuff (int): Channel of the first stuff class.
        predict_instances (bool): Also return ``pred_instances``, all detections with full-size
            masks, for box and mask AP.
    """

    def __init__(
        self,
        thing_labels: Sequence[int],
        stuff_labels: Sequence[int],
        score_thr: float = 0.5,
        overlap_thr: float = 0.5,
        stuff_area: int = 4096,
        min_visible: float = 0.0,
        mask_mode: str = "grid_sample",
        mask_thr: float = 0.5,
        stride: int = 4,
        pad_handling: str = "crop",
        first_stuff: int = 1,
        predict_instances: bool = False,
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
        self.mask_thr = mask_thr
        self.stride = stride
        self.pad_handling = pad_handling
        self.first_stuff = first_stuff
        self.predict_instances = predict_instances

    def make_rule(self, instances: InstanceData, masks: BoxedMasks) -> PaintRule:
        """Make the rule for the instances of one image.

        Args:
            instances (InstanceData): Those of sufficient score, by descending score.
            masks (BoxedMasks): Their masks.

        Returns:
            PaintRule: See :mod:`mmpanoptic.models.fusion_heads.paint_order`.
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
        return resize_padded_logits(logits, meta, self.pad_handling, self.stride).classes()

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
            labels = found.labels.new_tensor(self.thing_labels)[found.labels]
            full = self.paste(found, size).to_full()
            # Boxes of the legacy convention end at their last pixel, those of the result behind it.
            end = 1.0 if self.mask_mode == "legacy" else 0.0
            bboxes = found.bboxes + found.bboxes.new_tensor([0.0, 0.0, end, end])
            result["pred_instances"] = InstanceData(
                bboxes=bboxes, scores=found.scores, labels=labels, masks=full
            )
        return result

    def paste(self, instances: InstanceData, size: tuple[int, int]) -> BoxedMasks:
        """Bring the masks of instances to the pixels of an image of ``(H, W)``."""
        values = instances.mask_logits.float().sigmoid()
        return paste_masks(values, instances.bboxes, size, self.mask_mode, self.mask_thr)

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
        index_map, number = number_segments(painting, order, channels, is_stuff, self.stuff_area)
        things = instances.labels.new_tensor(self.thing_labels)[instances.labels]
        stuff = things.new_tensor(self.stuff_labels)
        start = len(instances) + first
        columns = segment_columns(
            torch.cat([number[: len(instances)], number[start : start + count]]),
            torch.cat([things, stuff]),
            torch.cat([instances.scores.double(), stuff.new_ones(count, dtype=torch.float64)]),
            segment_statistics(index_map, len(instances) + count),
        )
        return index_map, list_segments(columns, self.thing_labels)


def select_by_score(found: InstanceData, score_thr: float) -> InstanceData:
    """Keep the instances of sufficient score, the best first; equal scores keep their order."""
    scores, order = torch.sort(found.scores, descending=True, stable=True)
    return found[order[scores >= score_thr]]
