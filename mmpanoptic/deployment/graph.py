"""ONNX graphs from networks that PyTorch exported and from steps between them.

The steps are written with onnxscript's ``GraphBuilder``. Sizes that depend on the data (detections,
pixels of a class) stay what they are in ONNX: dimensions that nobody has to know beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import GraphBuilder
from torch import nn

from .errors import ExportError

OPSET = 20
FLOAT, DOUBLE, INT32, INT64, UINT8, BOOL = (
    int(kind)
    for kind in (
        ir.DataType.FLOAT,
        ir.DataType.DOUBLE,
        ir.DataType.INT32,
        ir.DataType.INT64,
        ir.DataType.UINT8,
        ir.DataType.BOOL,
    )
)
Value = Any
"""A tensor of the graph."""
END = 2**62
"""Behind the last entry of any axis, for ``Slice``."""


@dataclass(frozen=True)
class Size:
    """Height and width that are known when the graph runs: int64 scalars."""

    height: Value
    width: Value

    def both(self) -> tuple[Value, Value]:
        """Height, then width."""
        return self.height, self.width


class Steps:
    """Operations of a graph or of the body of a loop.

    Args:
        op (Any): onnxscript's builder of operations.
    """

    def __init__(self, op: Any) -> None:
        self.op = op

    # ---- constants and shapes -------------------------------------------------------------------

    def constant(self, values: Any, dtype: Any = np.int64) -> Value:
        """Store numbers in the graph."""
        return self.op.Constant(value=ir.tensor(np.asarray(values, dtype)))

    def cast(self, x: Value, kind: int) -> Value:
        """Convert to a type such as :data:`FLOAT`."""
        return self.op.Cast(x, to=kind)

    def dim(self, x: Value, axis: int) -> Value:
        """Tell the length of an axis: int64 scalar."""
        return self.op.Squeeze(self.op.Shape(x, start=axis, end=axis + 1), self.constant([0]))

    def vector(self, *numbers: Value | int) -> Value:
        """Join int64 scalars to ``(n,)``."""
        axis = self.constant([0])
        parts = [
            self.constant([number]) if isinstance(number, int) else self.op.Unsqueeze(number, axis)
            for number in numbers
        ]
        return parts[0] if len(parts) == 1 else self.op.Concat(*parts, axis=0)

    def span(self, length: Value, kind: int = INT64) -> Value:
        """Count ``0 .. length - 1``."""
        numbers = self.op.Range(self.constant(0), length, self.constant(1))
        return numbers if kind == INT64 else self.cast(numbers, kind)

    def full(self, shape: Value, value: Any, dtype: Any) -> Value:
        """Make a tensor of one value."""
        return self.op.ConstantOfShape(shape, value=ir.tensor(np.asarray([value], dtype)))

    def unsqueeze(self, x: Value, *axes: int) -> Value:
        """Add axes of length 1."""
        return self.op.Unsqueeze(x, self.constant(axes))

    def squeeze(self, x: Value, *axes: int) -> Value:
        """Drop axes of length 1."""
        return self.op.Squeeze(x, self.constant(axes))

    def reshape(self, x: Value, *shape: Value | int) -> Value:
        """Give a tensor another shape; -1 is what remains."""
        return self.op.Reshape(x, self.vector(*shape))

    # ---- parts ----------------------------------------------------------------------------------

    def cut(
        self, x: Value, axis: int, start: Value | int, stop: Value | int = END, step: int = 1
    ) -> Value:
        """Take ``start .. stop - 1`` of an axis."""
        limits = self.vector(start), self.vector(stop)
        return self.op.Slice(x, *limits, self.constant([axis]), self.constant([step]))

    def columns(self, x: Value, axis: int = 1) -> list[Value]:
        """Split boxes along the axis of their four numbers, which is dropped."""
        return [self.op.Gather(x, self.constant(number), axis=axis) for number in range(4)]

    def crop(self, x: Value, size: Size, axes: tuple[int, int] = (2, 3)) -> Value:
        """Cut maps down to the first ``size`` rows and columns."""
        ends = self.vector(*size.both())
        return self.op.Slice(x, self.constant([0, 0]), ends, self.constant(axes))

    def where_true(self, mask: Value) -> Value:
        """List the positions ``(K,)`` at which a mask ``(N,)`` is true."""
        return self.squeeze(self.op.NonZero(mask), 0)

    def first(self, x: Value, limit: int | None) -> Value:
        """Take the first ``limit`` entries, or all."""
        return x if limit is None else self.cut(x, 0, 0, limit)

    # ---- numbers --------------------------------------------------------------------------------

    def total(self, x: Value, *axes: int, keep: bool = False) -> Value:
        """Add up."""
        return self.op.ReduceSum(x, self.constant(axes), keepdims=int(keep))

    def count(self, mask: Value, kind: int = INT64) -> Value:
        """Count what is true: scalar."""
        return self.op.ReduceSum(self.cast(mask, kind), keepdims=0)

    def count_values(self, values: Value, length: Value) -> Value:
        """Count how often each of ``0 .. length - 1`` occurs in ``(P,)``: int64 ``(length,)``."""
        return self.sum_values(
            values, self.full(self.op.Shape(values), 1, np.int64), length, np.int64
        )

    def sum_values(self, owner: Value, values: Value, length: Value, dtype: Any) -> Value:
        """Add values ``(P,)`` up by owner: ``(length,)``."""
        nothing = self.full(self.vector(length), 0, dtype)
        return self.op.ScatterElements(nothing, owner, values, axis=0, reduction="add")

    def descending(self, scores: Value) -> tuple[Value, Value]:
        """Sort ``(K,)``: values and places; of equal ones the first comes first."""
        return self.op.TopK(scores, self.vector(self.dim(scores, 0)), axis=0, _outputs=2)

    def inverse(self, order: Value) -> Value:
        """Invert a permutation ``(K,)``."""
        length = self.dim(order, 0)
        return self.op.ScatterElements(
            self.full(self.vector(length), 0, np.int64), order, self.span(length), axis=0
        )

    # ---- control --------------------------------------------------------------------------------

    def loop(
        self,
        count: Value,
        carried: Sequence[Value],
        body: Callable[..., Sequence[Value]],
        stacked: int = 0,
    ) -> list[Value]:
        """Repeat steps.

        Args:
            count (Value): int64 scalar.
            carried (Sequence[Value]): What each round gets from the one before.
            body (Callable): Gets the steps of the body, the number of the round and what is
                carried; returns what it hands on and, behind it, ``stacked`` results.
            stacked (int): Results of the rounds that are stacked.

        Returns:
            list[Value]: What the last round hands on, and the stacked results.
        """
        number = next(_loops)
        scalar = ir.Shape([])
        inputs = [
            ir.Value(name=f"round_{number}", type=ir.TensorType(ir.DataType.INT64), shape=scalar),
            ir.Value(name=f"go_{number}", type=ir.TensorType(ir.DataType.BOOL), shape=scalar),
            *(
                ir.Value(name=f"carried_{number}_{n}", type=value.type)
                for n, value in enumerate(carried)
            ),
        ]
        outputs = [ir.Value(name=f"left_{number}_{n}") for n in range(1 + len(carried) + stacked)]

        def trace(op: Any, index: Value, go: Value, *values: Value) -> list[Value]:
            inner = Steps(op)
            found = body(inner, index, *values)
            return [inner.op.Identity(value) for value in (go, *found)]

        builder = self.op.builder
        builder.push_module(f"body_{number}")  # names are unique in all graphs together
        graph = builder.subgraph(trace, inputs, outputs, name=f"body_{number}")
        builder.pop_module()
        found = self.op.Loop(
            count, self.constant(True, bool), *carried, body=graph, _outputs=len(carried) + stacked
        )
        return list(found) if isinstance(found, Sequence) else [found]


_loops = count()


def new_graph(name: str) -> Steps:
    """Start a graph."""
    return Steps(GraphBuilder(ir.Graph([], [], nodes=[], name=name, opset_imports={"": OPSET})).op)


def embed(steps: Steps, network: ir.Model, prefix: str, inputs: Sequence[Value]) -> list[Value]:
    """Move the nodes of an exported network into a graph.

    Args:
        steps (Steps): The graph.
        network (ir.Model): It cannot be used afterwards.
        prefix (str): Goes before all its names.
        inputs (Sequence[Value]): What its inputs become.

    Returns:
        list[Value]: Its outputs.
    """
    source, target = network.graph, steps.op.builder.graph
    for given, value in zip(source.inputs, inputs, strict=True):
        ir.convenience.replace_all_uses_with(given, value)
    for value in list(source.initializers.values()):
        source.initializers.pop(str(value.name))
        value.name = f"{prefix}.{value.name}"
        target.register_initializer(value)
    outputs = list(source.outputs)
    source.outputs.clear()
    for node in list(source):
        source.remove(node)
        node.name = f"{prefix}/{node.name}"
        for value in node.outputs:
            value.name = f"{prefix}.{value.name}"
            value.shape = None  # names of open lengths mean others in the next network
        target.append(node)
    return outputs


def export_network(
    module: nn.Module, inputs: Sequence[torch.Tensor], dynamic: Sequence[dict[int, Any]] | None
) -> ir.Model:
    """Let PyTorch export a network.

    Args:
        module (nn.Module): In evaluation mode, with tensors in and a tuple of tensors out.
        inputs (Sequence[Tensor]): Examples.
        dynamic (Sequence[dict] | None): Of each input the axes whose length is open, as
            ``torch.export.Dim``; None fixes all.

    Returns:
        ir.Model: The network.

    Raises:
        ExportError: If it has no graph.
    """
    try:
        with torch.no_grad():
            program: Any = torch.onnx.export(
                module.eval(),
                tuple(inputs),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
                dynamic_shapes=None if dynamic is None else tuple(dynamic),
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"PyTorch cannot export {type(module).__name__}: {error}") from error
    model: ir.Model = program.model
    return model
