"""Adaptive fusion of instance and semantic logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmpanoptic.models.postprocess import ResizedLogits
from mmpanoptic.models.postprocess.augmented import MeanLogits
from mmpanoptic.models.postprocess.flips import flipped_dims
from mmpanoptic.models.postprocess.logit_contest import (
    LogitContest,
    Window,
    authors_windows,
    center_windows,
    instance_logits,
)
from mmpanoptic.models.postprocess.segments import (
    FIRST,
    FREE,
    count_values,
    list_segments,
    number_segments,
    segment_rows,
    segment_statistics,
)
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import BoxedMasks, SegmentInfo, as_tensor_on, make_panoptic_data

MASK_LOGIT_FIELDS = ("scores", "labels", "mask_logits")


@MODELS.register_module()
class AdaptiveLogitFusionHead(BaseModule):
    """Let instances and stuff compete for pixels with logits of both branches.

    EfficientPS (arXiv:2004.02307), section 3.4. Instances are taken in the order of their scores;
    one of whose mask more than ``overlap_thr`` is already taken is dropped. At each pixel of its
    box an instance has the logit A of its mask and the logit B of its class in the semantic
    branch; ``(sigmoid(A) + sigmoid(B)) (A + B)`` competes with the logits of the stuff classes and
    of the other instances. Pixels that stuff wins take the most likely semantic class; things
    and small stuff there become void. Without stuff classes instances compete with 0.

    Both kinds of instance heads are served: RoI heads (``mask_logits`` ``(K, m, m)`` of the
    predicted class, pasted here inside the boxes) and box-free heads (``mask_logits`` as
    :class:`BoxedMasks` of float logits, whose windows are the tight boxes of the binary masks).

    Differences from the original, each restored by an option where results differ: outside of its
    box an instance cannot win (there its fused logit was 0, so wherever all stuff logits are
    negative the first instance took the pixel); the box is the pixels whose centres it contains;
    semantic logits of padded images are cropped, then resized; the result has the original size;
    only the predicted class is pasted, inside the boxes.

    Args:
        num_classes (int): Number of classes C.
        thing_labels (Sequence[int]): Contiguous labels of the things, in the order of the
            instances' labels.
        stride (int): Pixels per cell of the semantic logits.
        score_thr (float): Instances score at least this.
        overlap_thr (float): Largest share of a mask that instances before may have taken.
        stuff_area (int): Stuff classes with fewer pixels become void.
        inst_logit_scale (float): Factor of A: 1 is the paper's formula, 4 the authors' code.
        legacy_zero_outside (bool): Fused logits are 0 outside of the boxes, as in the authors'
            code.
        legacy_windows (bool): Round boxes as the authors' code does, one pixel off.
        predict_instances (bool): Also return ``pred_instances`` with one full-size mask each, of
            all instances before the score threshold.

    Raises:
        ValueError: If a label of a thing is no class.
    """

    NEEDS = {"mask_logits": "a RoI head, or a SOLOv2Head by SOLOv2FusionHead"}

    def __init__(
        self,
        num_classes: int,
        thing_labels: Sequence[int],
        stride: int = 4,
        score_thr: float = 0.5,
        overlap_thr: float = 0.5,
        stuff_area: int = 2048,
        inst_logit_scale: float = 1.0,
        legacy_zero_outside: bool = False,
        legacy_windows: bool = False,
        predict_instances: bool = False,
    ) -> None:
        super().__init__()
        if not set(thing_labels) <= set(range(num_classes)):
            raise ValueError(
                f"AdaptiveLogitFusionHead: thing_labels must lie in 0..{num_classes - 1}, got "
                f"{list(thing_labels)}"
            )
        self.num_classes = num_classes
        self.thing_labels = list(thing_labels)
        is_stuff = torch.ones(num_classes, dtype=torch.bool)
        is_stuff[self.thing_labels] = False
        self.register_buffer("is_stuff", is_stuff, persistent=False)
        self.is_stuff: Tensor
        stuff = [label for label in range(num_classes) if label not in set(self.thing_labels)]
        self.register_buffer("stuff", torch.tensor(stuff, dtype=torch.int64), persistent=False)
        self.stuff: Tensor
        self.stride = stride
        self.score_thr = score_thr
        self.overlap_thr = overlap_thr
        self.stuff_area = stuff_area
        self.inst_logit_scale = inst_logit_scale
        self.legacy_zero_outside = legacy_zero_outside
        self.legacy_windows = legacy_windows
        self.predict_instances = predict_instances

    @torch.no_grad()
    def predict(
        self,
        sem_outputs: Tensor,
        instances: Sequence[InstanceData],
        batch_img_metas: Sequence[Mapping[str, Any]],
    ) -> list[dict[str, Any]]:
        """Fuse a batch, one image after the other to bound the memory.

        Args:
            sem_outputs (Tensor): Logits ``(N, C, h, w)`` at ``stride``.
            instances (Sequence[InstanceData]): For each image, in pixels of the original image:
                ``scores`` ``(K,)``, ``labels`` int64 ``(K,)`` in 0..number of things - 1, and
                ``mask_logits``: a tensor ``(K, m, m)`` with ``bboxes`` ``(K, 4)`` as x0, y0, x1,
                y1, or :class:`BoxedMasks` of float logits.
            batch_img_metas (Sequence[Mapping]): ``img_shape`` (height and width without padding)
                and ``ori_shape`` (size of the result, ``img_shape`` if absent) of each image.

        Returns:
            list[dict]: Fields of each data sample: ``pred_panoptic_seg``, ``pred_sem_seg`` and,
            with ``predict_instances``, ``pred_instances``.
        """
        with torch.autocast(sem_outputs.device.type, enabled=False):
            triples = zip(sem_outputs, instances, batch_img_metas, strict=True)
            return [
                self.predict_single(ResizedLogits.of_image(logits, self.stride, meta), found)
                for logits, found, meta in triples
            ]

    @torch.no_grad()
    def predict_augmented(
        self,
        sem_outputs: Sequence[Tensor],
        instances: InstanceData,
        metas: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Fuse several augmentations of one image; semantic logits are averaged.

        Args:
            sem_outputs (Sequence[Tensor]): Logits ``(C, h, w)`` of each augmentation.
            instances (InstanceData): As in :meth:`predict`, merged from all augmentations.
            metas (Sequence[Mapping]): ``img_shape`` and ``ori_shape`` as in :meth:`predict`, and
                ``flip`` and ``flip_direction``, of each.

        Returns:
            dict: See :meth:`predict`.
        """
        with torch.autocast(sem_outputs[0].device.type, enabled=False):
            pairs = zip(sem_outputs, metas, strict=True)
            parts = [ResizedLogits.of_image(logits, self.stride, meta) for logits, meta in pairs]
            flips = [flipped_dims(meta) for meta in metas]
            return self.predict_single(MeanLogits(parts, flips, "logits"), instances)

    def predict_single(
        self, logits: ResizedLogits | MeanLogits, instances: InstanceData
    ) -> dict[str, Any]:
        """Fuse one image.

        Args:
            logits (ResizedLogits | MeanLogits): ``(C, H, W)`` at the size of the result.
            instances (InstanceData): See :meth:`predict`.

        Returns:
            dict: See :meth:`predict`.
        """
        ranked = self._rank(instances)
        contest = self._compete(logits, ranked)
        semantic = logits.classes()
        index_map, segments = self._number(contest, semantic, ranked)
        pred_sem_seg = PixelData()
        pred_sem_seg.sem_seg = semantic[None]
        result: dict[str, Any] = {
            "pred_sem_seg": pred_sem_seg,
            "pred_panoptic_seg": make_panoptic_data(index_map, segments),
        }
        if self.predict_instances:
            result["pred_instances"] = self._instances(instances, logits.out_shape)
        return result

    def _rank(self, instances: InstanceData) -> InstanceData:
        """Keep the instances above the threshold, the highest scores first (ties in order)."""
        missing = [name for name in MASK_LOGIT_FIELDS if name not in instances]
        if missing:
            raise ValueError(
                f"AdaptiveLogitFusionHead: the instances lack {', '.join(missing)}; it fuses the "
                "logits of masks, not binary masks"
            )
        kept = (instances.scores >= self.score_thr).nonzero()[:, 0]
        order = kept[instances.scores[kept].argsort(descending=True, stable=True)]
        ranked = InstanceData(scores=instances.scores[order], labels=instances.labels[order])
        logits = instances.mask_logits
        boxed = isinstance(logits, BoxedMasks)
        ranked.mask_logits = logits.select(order.tolist()) if boxed else logits[order]
        boxes = logits.windows if boxed and "bboxes" not in instances else instances.bboxes
        ranked.bboxes = boxes[order].float()
        return ranked

    def _compete(self, logits: ResizedLogits | MeanLogits, ranked: InstanceData) -> LogitContest:
        size = logits.out_shape
        inner, labels = self._windows(ranked, size)
        needed = torch.zeros(size, dtype=torch.bool, device=self.is_stuff.device)
        for window in inner:
            needed[window] = True
        if self.legacy_zero_outside:
            needed.fill_(True)
        contest = LogitContest(
            logits,
            self._stuff_logits(logits, needed),
            self.overlap_thr,
            self.inst_logit_scale,
            self.legacy_zero_outside,
        )
        channels = [self.thing_labels[label] for label in labels]
        number = 0
        for block in instance_logits(ranked, size) if len(ranked) else ():
            for k in range(len(block)):
                outer = block.slices(k)
                values, own = block.crop(k), _intersection(inner[number], outer)
                if not self.legacy_zero_outside:
                    values, outer = _cut(values, outer, own), own
                contest.enter(number, values, outer, channels[number], own)
                number += 1
        contest.leak()
        return contest

    def _stuff_logits(self, logits: ResizedLogits | MeanLogits, needed: Tensor) -> Tensor:
        """Find the largest stuff logit of every pixel, float32 ``(H, W)``.

        Without stuff classes it is 0: an instance then takes the pixels that its fused logit is
        for, and not its whole box.
        """
        if not len(self.stuff):
            return torch.zeros(logits.out_shape, device=self.is_stuff.device)
        return logits.channels(self.stuff).maximum(needed)

    def _windows(
        self, ranked: InstanceData, size: tuple[int, int]
    ) -> tuple[list[Window], list[int]]:
        """Round the boxes to the windows in which the instances compete; list labels, too."""
        if self.legacy_windows:
            found = authors_windows(ranked.bboxes, size)
        elif isinstance(ranked.mask_logits, BoxedMasks):
            found = ranked.mask_logits.windows
        else:
            found = center_windows(ranked.bboxes, size)
        rows = torch.cat([found, ranked.labels[:, None].to(found.dtype)], 1).tolist()
        windows = [(slice(y0, y1), slice(x0, x1)) for x0, y0, x1, y1, _ in rows]
        return windows, [label for *_, label in rows]

    def _number(
        self, contest: LogitContest, semantic: Tensor, ranked: InstanceData
    ) -> tuple[Tensor, list[SegmentInfo]]:
        """Fill with stuff and number: first the instances by score, then stuff by class."""
        count = len(ranked)
        visible = count_values(contest.winner.flatten(), count + 1)[1:]
        owner = torch.where(contest.winner > 0, contest.winner + (FIRST - 1), FREE)
        index_map, number = number_segments(
            owner, visible, range(count), semantic.int(), self.is_stuff, self.stuff_area
        )
        things = as_tensor_on(ranked.labels, self.thing_labels)[ranked.labels]
        label = torch.cat([things, torch.arange(self.num_classes, device=semantic.device)])
        scores = ranked.scores.double()
        score = torch.cat([scores, scores.new_ones(self.num_classes)])
        found = segment_statistics(index_map, len(number)).of(number)
        rows = segment_rows(number, label, score, found.area, found.box)
        return index_map, list_segments([rows], self.thing_labels)[0]

    def _instances(self, instances: InstanceData, size: tuple[int, int]) -> InstanceData:
        """Binarise the masks of all instances at the size of the result."""
        masks = [block.above(0.0).to_full() for block in instance_logits(instances, size)]
        empty = torch.zeros(0, *size, dtype=torch.bool, device=instances.labels.device)
        things = as_tensor_on(instances.labels, self.thing_labels)
        found = InstanceData(
            masks=torch.cat(masks) if len(instances.labels) else empty,
            labels=things[instances.labels],
            scores=instances.scores,
        )
        if "bboxes" in instances:
            found.bboxes = instances.bboxes
        return found


def _intersection(a: Window, b: Window) -> Window:
    """Intersect two windows; the result is inside ``b`` even if it is empty."""
    rows, columns = (
        slice(start, max(start, min(i.stop, j.stop)))
        for i, j in zip(a, b, strict=True)
        for start in [min(max(i.start, j.start), j.stop)]
    )
    return rows, columns


def _cut(values: Tensor, window: Window, inner: Window) -> Tensor:
    """Cut values of a window down to a window inside of it."""
    rows, columns = (
        slice(i.start - w.start, i.stop - w.start) for i, w in zip(inner, window, strict=True)
    )
    return values[rows, columns]
