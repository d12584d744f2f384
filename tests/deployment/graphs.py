"""Graphs of single steps, run by onnxruntime."""

import numpy as np
import onnx_ir as ir
import onnxruntime

from mmpanoptic.deployment.graph import Size, new_graph
from mmpanoptic.deployment.preparation import Prepared

KINDS = {
    np.dtype(np.float32): ir.DataType.FLOAT,
    np.dtype(np.int64): ir.DataType.INT64,
    np.dtype(np.uint8): ir.DataType.UINT8,
}


def session_of(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    content = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_steps(build, **arrays):
    """Build a graph from steps and run it: ``build(steps, **values)`` gives a tuple."""
    steps = new_graph("test")
    values = {}
    for name, array in arrays.items():
        shape = [f"{name}{axis}" for axis in range(array.ndim)]
        values[name] = steps.op.builder.input(name, KINDS[array.dtype], shape)
    outputs = build(steps, **values)
    for number, value in enumerate(outputs):
        steps.op.builder.add_output(steps.op.Identity(value), f"output{number}")
    model = ir.Model(steps.op.builder.graph, ir_version=10)
    return session_of(model).run(None, arrays)


def sizes_of(steps, image, result):
    """Sizes of two maps ``(H, W)``: of the image without padding, and of the result."""
    both = [Size(steps.dim(one, 0), steps.dim(one, 1)) for one in (image, result)]
    return Prepared(None, both[0], both[0], both[1])


def maps(*sizes):
    return {
        name: np.zeros(size, np.uint8)
        for name, size in zip(("image", "result"), sizes, strict=True)
    }


def compare(found, expected, atol=1e-5):
    """Compare a map and its rows with ``pred_panoptic_seg``; tell how many segments there are.

    Rounding may decide about a pixel where two segments are equally likely.
    """
    ids, rows = found
    segments = expected.segments_info
    assert len(rows) == len(segments)
    assert (ids == expected.index_map[0].numpy()).mean() >= 0.999
    for row, segment in zip(rows.tolist(), segments, strict=True):
        label, score, x0, y0, x1, y1 = row
        assert label == segment["label"]
        assert abs(score - segment["score"]) < atol
        left, top, width, height = segment["bbox"]
        corners = left, top, left + width, top + height
        np.testing.assert_allclose((x0, y0, x1, y1), corners, rtol=0, atol=1)
    return len(segments)
