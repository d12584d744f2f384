"""The two stages of a detector in the graph: proposals, boxes, masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from torch import Tensor, nn

from mmpanoptic.models.task_modules.detectron import DetectronBoxCoder

from .errors import ExportError
from .graph import FLOAT, INT64, Size, Steps, Value
from .preparation import Prepared

MAX_BOXES = 1 << 20
"""What ONNX's suppression may keep of a class; the limits of the config come behind it."""
MANY_BOXES = 10000
"""From so many boxes on mmcv suppresses class by class; the result is the same up to rounding."""


@dataclass(frozen=True)
class Instances:
    """Instances of the image, by descending score.

    Attributes:
        boxes (Value): float32 ``(K, 4)``, in pixels of the result.
        scores (Value): float32 ``(K,)``.
        labels (Value): int64 ``(K,)``, position among the things.
        logits (Value): float32 ``(K, m, m)``, mask logits of the predicted class.
        cells (int): m.
        extra (Mapping[str, Value]): What further heads say, by name.
    """

    boxes: Value
    scores: Value
    labels: Value
    logits: Value
    cells: int
    extra: Mapping[str, Value]

    def take(self, steps: Steps, index: Value) -> Instances:
        """Select instances."""

        def chosen(values: Value) -> Value:
            return steps.op.Gather(values, index)

        return Instances(
            chosen(self.boxes),
            chosen(self.scores),
            chosen(self.labels),
            chosen(self.logits),
            self.cells,
            {name: chosen(values) for name, values in self.extra.items()},
        )


class FirstStage(nn.Module):
    """Features, semantic head and RPN head of a two-stage model.

    Args:
        model (nn.Module): A ``TwoStagePanopticSegmentor``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Map images ``(1, 3, H, W)`` to semantic logits, objectness, deltas and features."""
        feats, semantic = self.model.exchange(self.model.extract_feat(inputs))
        scores, deltas = self.model.rpn_head(feats)
        return (semantic, *scores, *deltas, *feats)


class BoxHead(nn.Module):
    """Box head: pooled features to class logits and deltas."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, feats: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(K, C, s, s)`` to ``(K, T + 1)`` and ``(K, 4 T)``."""
        scores, deltas = self.head(feats)
        return scores, deltas


class MaskHead(nn.Module):
    """Mask head and what sees its features: relation and occlusion heads.

    Args:
        roi_head (nn.Module): A ``PanopticRoIHead``.
    """

    def __init__(self, roi_head: Any) -> None:
        super().__init__()
        self.roi_head = roi_head
        self.extra = tuple(roi_head.EXTRA_HEADS)

    def forward(self, feats: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Map ``(K, C, s, s)`` and classes ``(K,)`` to mask logits ``(K, m, m)`` and the rest."""
        logits = self.roi_head.mask_head(feats)
        if self.roi_head.mask_head.class_agnostic:
            logits = logits[:, 0]
        else:
            index = labels[:, None, None, None].expand(-1, 1, *logits.shape[2:])
            logits = logits.gather(1, index)[:, 0]
        outputs = [logits]
        if self.extra:
            side = feats.shape[-1]
            step = logits.shape[-1] // side
            # The same as adaptive pooling where one size divides the other.
            mask = nn.functional.max_pool2d(logits[:, None].sigmoid(), step)
            stacked = torch.cat([feats, mask], 1)
            if "relation_head" in self.extra:
                outputs.append(self.roi_head.relation_head(stacked))
            if "occlusion_head" in self.extra:
                outputs.extend(self.roi_head.occlusion_head.halves(stacked))
        return tuple(outputs)


class OcclusionPairs(nn.Module):
    """Occlusion head behind its first convolution: halves of pairs to probabilities."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head: Any = head

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor]:
        """Map ``(P, C, h, w)`` twice to ``(P,)``: the first lies on the second."""
        x = nn.functional.relu(first + second)
        for conv in self.head.convs[1:]:
            x = nn.functional.relu(conv(x))
        hidden = nn.functional.relu(self.head.fc(x.flatten(1)))
        return (self.head.predictor(hidden)[:, 0].sigmoid(),)


# ---- boxes ----------------------------------------------------------------------------------


def decode(steps: Steps, coder: Any, boxes: Value, deltas: Value, limit: Size | None) -> Value:
    """Apply deltas ``(N, C, 4)`` to priors ``(N, 4)``: boxes ``(N, C, 4)``.

    Raises:
        ExportError: If the box coder is another.
    """
    op = steps.op
    inclusive = isinstance(coder, DetectronBoxCoder)
    if not inclusive and type(coder) is not DeltaXYWHBBoxCoder:
        raise ExportError(
            f"boxes are coded by {type(coder).__name__}, which has no counterpart in the graph; "
            "DetectronBoxCoder and DeltaXYWHBBoxCoder can be exported"
        )
    end = steps.constant(1.0 if inclusive else 0.0, np.float32)
    half = steps.constant(0.5, np.float32)
    low, high = steps.cut(boxes, 1, 0, 2), steps.cut(boxes, 1, 2, 4)
    size = op.Add(op.Sub(high, low), end)
    middle = op.Add(low, op.Mul(half, size)) if inclusive else op.Mul(op.Add(low, high), half)
    size, middle = steps.unsqueeze(size, 1), steps.unsqueeze(middle, 1)
    stds = coder.target_stds if inclusive else coder.stds
    deltas = op.Mul(deltas, steps.constant(stds, np.float32))
    if not inclusive:
        _check_coder(coder)
    shift, growth = steps.cut(deltas, 2, 0, 2), steps.cut(deltas, 2, 2, 4)
    ratio = math.log(coder.max_ratio) if inclusive else abs(math.log(16 / 1000))
    growth = op.Min(growth, steps.constant(ratio, np.float32))
    if not inclusive:
        growth = op.Max(growth, steps.constant(-ratio, np.float32))
    center = op.Add(op.Mul(shift, size), middle)
    reach = op.Mul(op.Mul(half, op.Exp(growth)), size)
    found = op.Concat(op.Sub(center, reach), op.Sub(op.Add(center, reach), end), axis=2)
    if limit is None:
        return found
    sides = steps.cast(steps.vector(*(limit.width, limit.height) * 2), FLOAT)
    zero = steps.constant(0, np.float32)
    return op.Min(op.Max(found, zero), op.Sub(sides, end))


def _check_coder(coder: DeltaXYWHBBoxCoder) -> None:
    if any(coder.means) or coder.add_ctr_clamp or not coder.clip_border:
        raise ExportError(
            "DeltaXYWHBBoxCoder with means, add_ctr_clamp or without clip_border has no "
            "counterpart in the graph"
        )


def suppress(
    steps: Steps, boxes: Value, scores: Value, groups: Value, options: Mapping[str, Any]
) -> Value:
    """Keep the boxes that no better one of their group overlaps: places by descending score.

    Args:
        steps (Steps): The graph.
        boxes (Value): ``(N, 4)``.
        scores (Value): ``(N,)``.
        groups (Value): int64 ``(N,)``.
        options (Mapping): ``nms`` of the config.

    Returns:
        Value: int64 ``(K,)``.

    Raises:
        ExportError: If it is another kind of suppression.
    """
    if options.get("type", "nms") != "nms":
        raise ExportError(f"the suppression {options['type']!r} is no operator of ONNX; use nms")
    op = steps.op
    if not options.get("class_agnostic", False):
        # As mmcv does: groups are moved apart.
        start = steps.constant(np.zeros(1), np.float32)
        largest = op.ReduceMax(op.Concat(start, steps.reshape(boxes, -1), axis=0), keepdims=0)
        apart = op.Mul(steps.cast(groups, FLOAT), op.Add(largest, steps.constant(1, np.float32)))
        boxes = op.Add(boxes, steps.unsqueeze(apart, 1))
    if options.get("offset", 0):
        boxes = op.Add(boxes, steps.constant([0, 0, 1, 1], np.float32))
    kept = op.NonMaxSuppression(
        steps.unsqueeze(boxes, 0),
        steps.unsqueeze(scores, 0, 1),
        steps.constant([MAX_BOXES]),
        steps.constant([options["iou_threshold"]], np.float32),
        # Boxes are sorted and suppressed, whatever their score.
        steps.constant([np.finfo(np.float32).min], np.float32),
    )
    return op.Gather(kept, steps.constant(2), axis=1)


def anchors(steps: Steps, head: Any, level: int, scores: Value) -> Value:
    """Place the anchors of a level: ``(h * w * A, 4)``."""
    op, generator = steps.op, head.prior_generator
    base = steps.constant(generator.base_anchors[level].cpu().numpy(), np.float32)
    height, width = steps.dim(scores, 2), steps.dim(scores, 3)
    stride_x, stride_y = generator.strides[level]
    x = op.Mul(steps.span(width, FLOAT), steps.constant(stride_x, np.float32))
    y = op.Mul(steps.span(height, FLOAT), steps.constant(stride_y, np.float32))
    shape = steps.vector(height, width)
    grid = [op.Expand(steps.unsqueeze(x, 0), shape), op.Expand(steps.unsqueeze(y, 1), shape)] * 2
    shifts = op.Concat(*(steps.reshape(part, -1, 1, 1) for part in grid), axis=2)
    return steps.reshape(op.Add(shifts, steps.unsqueeze(base, 0)), -1, 4)


def propose(
    steps: Steps, model: Any, scores: Sequence[Value], deltas: Sequence[Value], image: Size
) -> Value:
    """Propose boxes ``(K, 4)`` in pixels of the network's input; see ``RPNHead``.

    Args:
        steps (Steps): The graph.
        model (Any): The two-stage model.
        scores (Sequence[Value]): Objectness ``(1, A, h, w)`` of each level.
        deltas (Sequence[Value]): ``(1, 4 A, h, w)`` of each level.
        image (Size): Without padding.

    Returns:
        Value: By descending score.
    """
    op, head = steps.op, model.rpn_head
    cfg = head.test_cfg
    if not head.use_sigmoid_cls:
        raise ExportError("the RPN head scores by softmax, which has no counterpart in the graph")
    parts = []
    for level, (score, delta) in enumerate(zip(scores, deltas, strict=True)):
        score = op.Sigmoid(steps.reshape(op.Transpose(score, perm=[0, 2, 3, 1]), -1))
        delta = steps.reshape(op.Transpose(delta, perm=[0, 2, 3, 1]), -1, 4)
        prior = anchors(steps, head, level, scores[level])
        limit = steps.vector(op.Min(steps.dim(score, 0), steps.constant(cfg.nms_pre)))
        score, order = op.TopK(score, limit, axis=0, _outputs=2)
        group = steps.full(op.Shape(score), level, np.int64)
        parts.append((score, op.Gather(delta, order), op.Gather(prior, order), group))
    score, delta, prior, group = (op.Concat(*column, axis=0) for column in zip(*parts, strict=True))
    boxes = decode(steps, head.bbox_coder, prior, steps.unsqueeze(delta, 1), image)
    boxes = steps.squeeze(boxes, 1)
    if cfg.get("min_bbox_size", -1) >= 0:
        side = op.Sub(steps.cut(boxes, 1, 2, 4), steps.cut(boxes, 1, 0, 2))
        large = op.Greater(
            op.ReduceMin(side, steps.constant([1]), keepdims=0),
            steps.constant(cfg.min_bbox_size, np.float32),
        )
        kept = steps.where_true(large)
        boxes, score, group = (op.Gather(part, kept) for part in (boxes, score, group))
    kept = steps.first(suppress(steps, boxes, score, group, cfg.nms), cfg.max_per_img)
    return op.Gather(boxes, kept)


def pool(steps: Steps, extractor: Any, feats: Sequence[Value], boxes: Value) -> Value:
    """Pool boxes ``(K, 4)`` from the level of each: ``(K, C, s, s)``.

    Raises:
        ExportError: If the pooling is another than RoIAlign, or scales boxes.
    """
    op = steps.op
    levels = level_of(steps, extractor, boxes)
    pooled, places = [], []
    for level, (layer, feat) in enumerate(zip(extractor.roi_layers, feats, strict=False)):
        if type(layer).__name__ != "RoIAlign" or layer.pool_mode != "avg":
            raise ExportError(f"boxes are pooled by {layer}, which is not ONNX's RoiAlign")
        own = steps.where_true(op.Equal(levels, steps.constant(level)))
        size = layer.output_size
        pooled.append(
            op.RoiAlign(
                feat,
                op.Gather(boxes, own),
                steps.full(op.Shape(own), 0, np.int64),
                output_height=size[0],
                output_width=size[1],
                sampling_ratio=layer.sampling_ratio,
                spatial_scale=float(layer.spatial_scale),
                coordinate_transformation_mode=(
                    "half_pixel" if layer.aligned else "output_half_pixel"
                ),
            )
        )
        places.append(own)
    order = steps.inverse(op.Concat(*places, axis=0))
    return op.Gather(op.Concat(*pooled, axis=0), order)


def level_of(steps: Steps, extractor: Any, boxes: Value) -> Value:
    """Choose the level int64 ``(K,)`` of boxes as the extractor does."""
    op = steps.op
    detectron = hasattr(extractor, "canonical_size")
    end = steps.constant(1.0 if detectron else 0.0, np.float32)
    x0, y0, x1, y1 = steps.columns(boxes)
    side = op.Sqrt(op.Mul(op.Add(op.Sub(x1, x0), end), op.Add(op.Sub(y1, y0), end)))
    unit = extractor.canonical_size if detectron else extractor.finest_scale
    ratio = op.Add(op.Div(side, steps.constant(unit, np.float32)), steps.constant(1e-6, np.float32))
    level = op.Div(op.Log(ratio), steps.constant(math.log(2), np.float32))
    if detectron:
        level = op.Add(level, steps.constant(extractor.canonical_level, np.float32))
    last = len(extractor.roi_layers) - 1
    bounds = (steps.constant(number, np.float32) for number in (0, last))
    return steps.cast(op.Clip(op.Floor(level), *bounds), INT64)


def detect(
    steps: Steps, roi_head: Any, proposals: Value, scores: Value, deltas: Value, image: Size
) -> tuple[Value, Value, Value]:
    """Turn what the box head says into detections; see ``multiclass_nms``.

    Args:
        steps (Steps): The graph.
        roi_head (Any): Of the model.
        proposals (Value): ``(N, 4)``.
        scores (Value): Logits ``(N, T + 1)``.
        deltas (Value): ``(N, 4 T)`` or ``(N, 4)``.
        image (Size): Without padding.

    Returns:
        tuple[Value, Value, Value]: Boxes ``(K, 4)`` in pixels of the input, scores, labels.
    """
    op, head, cfg = steps.op, roi_head.bbox_head, roi_head.test_cfg
    classes = head.num_classes
    probability = steps.cut(op.Softmax(scores, axis=1), 1, 0, classes)
    deltas = steps.reshape(deltas, -1, 1 if head.reg_class_agnostic else classes, 4)
    boxes = decode(steps, head.bbox_coder, proposals, deltas, image)
    shape = steps.vector(steps.dim(probability, 0), classes, 4)
    boxes = steps.reshape(op.Expand(boxes, shape), -1, 4)
    flat = steps.reshape(probability, -1)
    labels = op.Mod(steps.span(steps.dim(flat, 0)), steps.constant(classes))
    likely = steps.where_true(op.Greater(flat, steps.constant(cfg.score_thr, np.float32)))
    boxes, flat, labels = (op.Gather(part, likely) for part in (boxes, flat, labels))
    kept = steps.first(suppress(steps, boxes, flat, labels, cfg.nms), cfg.max_per_img)
    return op.Gather(boxes, kept), op.Gather(flat, kept), op.Gather(labels, kept)


def find_instances(
    steps: Steps,
    model: Any,
    outputs: Sequence[Value],
    prepared: Prepared,
    embedded: Mapping[str, Callable[..., list[Value]]],
    cells: int,
) -> Instances:
    """Find the instances from what :class:`FirstStage` gives.

    Args:
        steps (Steps): The graph.
        model (Any): The two-stage model.
        outputs (Sequence[Value]): Behind the semantic logits.
        prepared (Prepared): Sizes.
        embedded (Mapping): Networks "boxes" and "masks".
        cells (int): Cells of a mask on a side.

    Returns:
        Instances: In pixels of the result.
    """
    op, roi_head = steps.op, model.roi_head
    levels = len(model.rpn_head.prior_generator.strides)
    scores, deltas = outputs[:levels], outputs[levels : 2 * levels]
    feats = outputs[2 * levels :]
    proposals = propose(steps, model, scores, deltas, prepared.image)
    pooled = pool(steps, roi_head.bbox_roi_extractor, feats, proposals)
    logits, shifts = embedded["boxes"](pooled)
    boxes, score, labels = detect(steps, roi_head, proposals, logits, shifts, prepared.image)
    # One more box, which no threshold lets pass: the mask head never sees an empty batch.
    boxes = op.Concat(boxes, steps.constant([[0, 0, 1, 1]], np.float32), axis=0)
    score = op.Concat(score, steps.constant([-1], np.float32), axis=0)
    labels = op.Concat(labels, steps.constant([0]), axis=0)
    pooled = pool(steps, roi_head.mask_roi_extractor, feats, boxes)
    masks, *more = embedded["masks"](pooled, labels)
    names = {"relation_head": ["relation"], "occlusion_head": ["first", "second"]}
    extra = [name for head in roi_head.EXTRA_HEADS for name in names[head]]
    ratio = op.Div(
        *(
            steps.cast(steps.vector(*(size.width, size.height) * 2), FLOAT)
            for size in (prepared.result, prepared.image)
        )
    )
    return Instances(
        op.Mul(boxes, ratio), score, labels, masks, cells, dict(zip(extra, more, strict=True))
    )


def select_by_score(steps: Steps, found: Instances, score_thr: float) -> Instances:
    """Keep the instances of sufficient score, the best first."""
    order = steps.descending(found.scores)[1]
    enough = steps.op.GreaterOrEqual(
        steps.op.Gather(found.scores, order), steps.constant(score_thr, np.float32)
    )
    return found.take(steps, steps.op.Gather(order, steps.where_true(enough)))
