"""Graphs with smaller weights, of systems whose panoptic quality was measured with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from .errors import ExportError

SMALL = 1024
"""Numbers of a tensor from which on it counts as weights."""
QUANTISED = ("Conv", "MatMul")
"""Operators with weights of 8 bits; products of two results stay as they are."""
BOTH = ("fp16", "int8")
HOLDS: dict[str, tuple[str, ...]] = {
    "AdaptiveLogitFusionHead": BOTH,
    "CenterGroupingHead": BOTH,
    "HeuristicFusionHead": BOTH,
    "SOLOv2FusionHead": BOTH,
    "SOLOv2FusionHead with AdaptiveLogitFusionHead": BOTH,
}
"""Smaller weights that keep the PQ within 1 of float32, by the fusion head: docs/deployment.md."""


def check_precision(head: Any, precision: str) -> None:
    """Refuse weights that cost quality, or of which nobody knows what they cost.

    Args:
        head (nn.Module): The fusion head, which tells the system.
        precision (str): "fp32", "fp16" or "int8".

    Raises:
        ExportError: If the PQ of the system is not known to stay.
    """
    name = type(head).__name__
    if getattr(head, "fusion", None) is not None:
        name = f"{name} with {type(head.fusion).__name__}"
    kept = ("fp32", *HOLDS.get(name, ()))
    if precision not in kept:
        raise ExportError(
            f"the PQ of models with {name} was not measured to stay within 1 of float32 with "
            f"--precision {precision} (docs/deployment.md); take {' or '.join(kept)}"
        )


def save_graph(model: ir.Model, path: Path, precision: str = "fp32") -> None:
    """Write a graph.

    Args:
        model (ir.Model): From :func:`~mmpanoptic.deployment.end_to_end.build_graph`; it is
            changed.
        path (Path): The file.
        precision (str): "fp32"; "fp16" stores the weights in half precision and computes in
            float32; "int8" stores those of convolutions and linear layers in 8 bits and computes
            with whole numbers, whose range is found anew in each image.
    """
    if precision == "fp16":
        halve_weights(model)
    if precision == "int8":
        model.metadata_props["onnx.quant.pre_process"] = "onnxruntime.quant"  # else it warns
    ir.save(model, path)
    if precision == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        computed = [  # weights that the graph computes, as parts of others
            node.name
            for node in model.graph
            if node.op_type in QUANTISED
            and (node.inputs[1] is None or node.inputs[1].name not in model.graph.initializers)
        ]
        # onnxruntime's convolution of whole numbers takes unsigned ones on all processors.
        quantize_dynamic(
            path,
            path,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=computed,
            weight_type=QuantType.QUInt8,
        )


def halve_weights(model: ir.Model) -> None:
    """Store the weights in half precision; they become float32 when the file is loaded."""
    graph = model.graph
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < SMALL:
            continue
        half = ir.tensor(tensor.numpy().astype(np.float16), name=f"{value.name}.fp16")
        stored = ir.Value(
            name=half.name, shape=value.shape, type=ir.TensorType(half.dtype), const_value=half
        )
        node = ir.node("Cast", [stored], attributes={"to": ir.DataType.FLOAT})
        node.outputs[0].name = f"{value.name}.fp32"
        ir.convenience.replace_all_uses_with(value, node.outputs[0])
        graph.initializers.pop(str(value.name))
        graph.register_initializer(stored)
        graph.insert_before(graph[0], node)
