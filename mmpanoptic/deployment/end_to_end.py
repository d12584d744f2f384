"""Whole systems as graphs: from an image to its panoptic map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from mmcv.cnn import fuse_conv_bn
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from . import center_grouping, logit_contest, painting, solov2
from .detection import BoxHead, FirstStage, Instances, MaskHead, OcclusionPairs, find_instances
from .errors import ExportError
from .graph import INT32, Size, Steps, Value, embed, export_network, new_graph
from .layers import exported_layers
from .preparation import Prepared, Resizing, prepare, read_pipeline, resized_size
from .segments import enlarge, measure, table

IR_VERSION = 10
MAX_CELLS = 512
"""Largest side of the network's input in units of the padding, where axes are open."""


class Network(nn.Module):
    """Backbone and heads of a panoptic model with a flat tuple of outputs.

    Args:
        model (nn.Module): With ``forward_heads``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Map normalised images ``(N, 3, H, W)`` to all outputs of the heads."""
        return tuple(named_outputs(self.model.forward_heads(inputs)).values())


def named_outputs(outputs: Any, name: str = "output") -> dict[str, Tensor]:
    """Flatten (named) tuples of tensors; a field gives its name, a place in a tuple a number."""
    if outputs is None:
        return {}
    if isinstance(outputs, Tensor):
        return {name: outputs}
    fields = getattr(outputs, "_fields", [f"{name}{i}" for i in range(len(outputs))])
    found: dict[str, Tensor] = {}
    for field, value in zip(fields, outputs, strict=True):
        found.update(named_outputs(value, field))
    return found


@dataclass(frozen=True)
class Sizes:
    """What is fixed in the file.

    Attributes:
        image (tuple[int, int] | None): Height and width of the image; None leaves them open.
        inputs (tuple[int, int]): Of the network's input, or an example of it.
        divisor (int): Its sides are multiples of it.
    """

    image: tuple[int, int] | None
    inputs: tuple[int, int]
    divisor: int

    def axes(self) -> dict[int, Any] | None:
        """Name the open axes of the network's input."""
        if self.image is not None:
            return None
        low = max(64 // self.divisor, 2)
        height, width = (
            torch.export.Dim(name, min=low, max=MAX_CELLS * 32 // self.divisor)
            for name in ("rows", "columns")
        )
        if self.divisor == 1:
            return {2: height, 3: width}
        return {2: self.divisor * height, 3: self.divisor * width}


def build_graph(model: Any, pipeline: Sequence[Any], image: tuple[int, int] | None) -> ir.Model:
    """Build the graph of a model.

    Args:
        model (nn.Module): From ``init_model``, on the CPU; its norm layers are folded into the
            convolutions, so that it cannot be trained afterwards.
        pipeline (Sequence[dict]): Steps of the test pipeline.
        image (tuple[int, int] | None): Height and width to fix; None leaves them open.

    Returns:
        ir.Model: Input ``image``, uint8 RGB ``(H, W, 3)``; outputs ``panoptic_ids`` int32
        ``(H, W)`` and ``segments`` float32 ``(N, 6)``. Of COPS the outputs of the network and
        ``image_size``.

    Raises:
        ExportError: If a part of the model has no counterpart in the graph.
    """
    kept = read_pipeline(pipeline)
    system = _system_of(model)
    model = fuse_conv_bn(model).eval()
    preprocessor = model.data_preprocessor
    sizes = _sizes(preprocessor, kept, image)
    steps = new_graph(type(model).__name__)
    builder = steps.op.builder
    shape = ["height", "width", 3] if image is None else [*image, 3]
    picture = builder.input("image", ir.DataType.UINT8, shape)
    prepared = prepare(steps, picture, kept, preprocessor, sizes.divisor)
    with exported_layers(model, None if sizes.axes() is None else sizes.divisor):
        found = system(steps, model, prepared, sizes)
    for name, value in found.items():
        builder.add_output(steps.op.Identity(value), name)
    return ir.Model(builder.graph, ir_version=IR_VERSION, producer_name="mmpanoptic")


def _sizes(preprocessor: Any, pipeline: Sequence[Any], image: tuple[int, int] | None) -> Sizes:
    divisor = max(int(preprocessor.pad_size_divisor), 1)
    if preprocessor.pad_size is not None:
        return Sizes(image or (0, 0), tuple(preprocessor.pad_size), divisor)
    if image is None:
        side = -(-96 // divisor) * divisor
        return Sizes(None, (side, side + -(-64 // divisor) * divisor), divisor)
    inputs = image
    for one in pipeline:
        if isinstance(one, Resizing):
            inputs = fixed_size(image, one)
    height, width = (-(-side // divisor) * divisor for side in inputs)
    return Sizes(image, (height, width), divisor)


def fixed_size(image: tuple[int, int], resizing: Resizing) -> tuple[int, int]:
    """Compute the size of the resized image with the graph's own rule."""
    steps = new_graph("size")
    given = steps.op.builder.input("size", ir.DataType.INT64, [2])
    sides = (steps.op.Gather(given, steps.constant(axis)) for axis in (0, 1))
    found = resized_size(steps, Size(*sides), resizing)
    steps.op.builder.add_output(steps.vector(*found.both()), "resized")
    proto = ir.to_proto(ir.Model(steps.op.builder.graph, ir_version=IR_VERSION))
    (numbers,) = ReferenceEvaluator(proto).run(None, {"size": np.array(image, np.int64)})
    return int(numbers[0]), int(numbers[1])


# ---- systems --------------------------------------------------------------------------------

System = Callable[[Steps, Any, Prepared, Sizes], dict[str, Value]]


def _system_of(model: Any) -> System:
    """Find out how the outputs of a model are put together.

    Raises:
        ExportError: If there is no way in a graph.
    """
    if not hasattr(model, "forward_heads"):
        raise ExportError(
            f"{type(model).__name__} is no panoptic model; only those can be exported"
        )
    head = type(model.fusion_head).__name__
    if hasattr(model, "rpn_head"):
        systems: dict[str, System] = dict.fromkeys(
            (
                "HeuristicFusionHead",
                "LabelResizeFusionHead",
                "RelationFusionHead",
                "OcclusionFusionHead",
                "AdaptiveLogitFusionHead",
            ),
            _two_stage,
        )
    else:
        systems = {
            "CenterGroupingHead": _center_grouping,
            "SOLOv2FusionHead": _solov2,
            "SemanticOnlyHead": _semantic_only,
            "MulticutHead": _multicut,
        }
    if head not in systems:
        raise ExportError(
            f"the fusion head {head} of {type(model).__name__} has no counterpart in the graph; "
            f"there are {', '.join(systems)}"
        )
    return systems[head]


def _result(index_map: Value, segments: Value, steps: Steps) -> dict[str, Value]:
    return {"panoptic_ids": steps.cast(index_map, INT32), "segments": segments}


def _one_stage(steps: Steps, model: Any, prepared: Prepared, sizes: Sizes) -> dict[str, Value]:
    """Run the network; outputs by name."""
    example = torch.zeros(1, 3, *sizes.inputs)
    with torch.no_grad():
        names = list(named_outputs(model.forward_heads(example)))
    axes = sizes.axes()
    network = export_network(Network(model), [example], None if axes is None else [axes])
    return dict(zip(names, embed(steps, network, "network", [prepared.inputs]), strict=True))


def _center_grouping(
    steps: Steps, model: Any, prepared: Prepared, sizes: Sizes
) -> dict[str, Value]:
    out = _one_stage(steps, model, prepared, sizes)
    found = center_grouping.group(
        steps, model.fusion_head, prepared, out["semantic"], out["center"], out["offset"]
    )
    return _result(*found, steps)


def _solov2(steps: Steps, model: Any, prepared: Prepared, sizes: Sizes) -> dict[str, Value]:
    out = _one_stage(steps, model, prepared, sizes)
    semantic = out.pop("semantic", None)
    found = solov2.fuse(steps, model.fusion_head, prepared, list(out.values()), semantic)
    return _result(*found, steps)


def _semantic_only(steps: Steps, model: Any, prepared: Prepared, sizes: Sizes) -> dict[str, Value]:
    head, op = model.fusion_head, steps.op
    out = _one_stage(steps, model, prepared, sizes)
    logits = enlarge(steps, out["semantic"], head.stride, prepared.image, prepared.result)
    classes = steps.squeeze(op.ArgMax(logits, axis=1, keepdims=0), 0)
    count = steps.count_values(steps.reshape(classes, -1), steps.constant(head.num_classes))
    seen = steps.cast(op.Greater(count, steps.constant(0)), int(ir.DataType.INT64))
    number = op.Mul(op.CumSum(seen, steps.constant(0)), seen)
    index_map = op.Gather(number, classes)
    boxes, _ = measure(steps, index_map, op.ReduceSum(seen, keepdims=0))
    labels = steps.constant(np.arange(head.num_classes))
    score = steps.constant(np.ones(head.num_classes), np.float32)
    return _result(index_map, table(steps, number, labels, score, boxes), steps)


def _multicut(steps: Steps, model: Any, prepared: Prepared, sizes: Sizes) -> dict[str, Value]:
    out = _one_stage(steps, model, prepared, sizes)
    return {**out, "image_size": steps.vector(*prepared.image.both())}


def _two_stage(steps: Steps, model: Any, prepared: Prepared, sizes: Sizes) -> dict[str, Value]:
    example = torch.zeros(1, 3, *sizes.inputs)
    axes = sizes.axes()
    network = export_network(FirstStage(model), [example], None if axes is None else [axes])
    semantic, *outputs = embed(steps, network, "network", [prepared.inputs])
    heads, cells = _later_networks(steps, model)
    found = find_instances(steps, model, outputs, prepared, heads, cells)
    head = model.fusion_head
    if type(head).__name__ == "AdaptiveLogitFusionHead":
        return _result(*logit_contest.fuse_boxes(steps, head, prepared, semantic, found), steps)
    found = _ranked(steps, model, found)
    pairs = heads.get("pairs")
    return _result(*painting.fuse(steps, head, prepared, semantic, found, pairs), steps)


def _ranked(steps: Steps, model: Any, found: Instances) -> Instances:
    """Leave relation values of unlikely instances at infinity, as ``RelationRoIHead`` does."""
    if "relation" not in found.extra:
        return found
    least = steps.constant(model.roi_head.relation_score_thr, np.float32)
    seen = steps.op.GreaterOrEqual(found.scores, least)
    values = steps.op.Where(seen, found.extra["relation"], steps.constant(np.inf, np.float32))
    return Instances(
        found.boxes,
        found.scores,
        found.labels,
        found.logits,
        found.cells,
        {**found.extra, "relation": values},
    )


def _later_networks(steps: Steps, model: Any) -> tuple[dict[str, Any], int]:
    """Export box head, mask head and occlusion head; tell the cells of a mask, too."""
    roi_head = model.roi_head
    many = {0: torch.export.Dim("boxes", min=2, max=1 << 16)}

    def example(extractor: Any) -> Tensor:
        side = extractor.roi_layers[0].output_size
        return torch.rand(3, extractor.out_channels, *side)

    def network(module: nn.Module, inputs: Sequence[Tensor], name: str) -> Any:
        exported = export_network(module, inputs, [many] * len(inputs))
        return lambda *values: embed(steps, exported, name, values)

    labels = torch.zeros(3, dtype=torch.int64)
    masks, pooled = MaskHead(roi_head), example(roi_head.mask_roi_extractor)
    with torch.no_grad():
        outputs = masks(pooled, labels)
    heads = {
        "boxes": network(
            BoxHead(roi_head.bbox_head), [example(roi_head.bbox_roi_extractor)], "boxes"
        ),
        "masks": network(masks, [pooled, labels], "masks"),
    }
    if "occlusion_head" in roi_head.EXTRA_HEADS:
        heads["pairs"] = network(OcclusionPairs(roi_head.occlusion_head), outputs[-2:], "pairs")
    return heads, int(outputs[0].shape[-1])
