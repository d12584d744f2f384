"""Write the fixtures of the operators' parity tests; needs the full mmcv 2.1.0 and g++.

    python tests/data/golden/ops/generate.py

See README.md beside this file.
"""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[3]))

from tests.ops.cases import COMPILED_ON_CPU, RUNNERS, Arrays, save_case  # noqa: E402

Case = tuple[str, dict[str, Any], Arrays]


def _floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _boxes(rng: np.random.Generator, count: int, clusters: int = 6) -> np.ndarray:
    centres = rng.uniform(20, 180, (clusters, 2))[rng.integers(clusters, size=count)]
    centres = centres + rng.normal(0, 6, (count, 2))
    sizes = np.exp(rng.uniform(2.5, 4, (count, 2)))
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], 1)
    return boxes.astype(np.float32)


def nms_cases(rng: np.random.Generator) -> Iterator[Case]:
    for offset, threshold in itertools.product((0, 1), (0.3, 0.5, 0.7)):
        count = 600 if threshold == 0.5 else 150  # more than one block of the implementation
        inputs = {"boxes": _boxes(rng, count), "scores": rng.random(count, np.float32)}
        yield "nms", {"iou_threshold": threshold, "offset": offset}, inputs
        # Whole numbers: many IoUs that equal the threshold, and equal boxes and scores. No more
        # than 16 boxes, up to which torch's unstable sort, which mmcv uses, keeps equal scores.
        corners = rng.integers(0, 6, (16, 2))
        boxes = np.concatenate([corners, corners + rng.integers(0, 6, (16, 2))], 1)
        scores = rng.integers(1, 4, 16).astype(np.float32) / 4
        inputs = {"boxes": boxes.astype(np.float32), "scores": scores}
        yield "nms", {"iou_threshold": threshold, "offset": offset}, inputs
    inputs = {"boxes": _boxes(rng, 100), "scores": rng.random(100, np.float32)}
    params = {"iou_threshold": 0.5, "score_threshold": 0.3, "max_num": 7}
    yield "nms", params, inputs
    empty = {"boxes": np.zeros((0, 4), np.float32), "scores": np.zeros(0, np.float32)}
    yield "nms", {"iou_threshold": 0.5}, empty


def soft_nms_cases(rng: np.random.Generator) -> Iterator[Case]:
    for method, offset in itertools.product(("naive", "linear", "gaussian"), (0, 1)):
        scores = rng.integers(1, 20, 60).astype(np.float32) / 20
        inputs = {"boxes": _boxes(rng, 60), "scores": scores}
        params = {"iou_threshold": 0.3, "sigma": 0.5, "min_score": 0.05, "method": method}
        yield "soft_nms", {**params, "offset": offset}, inputs
    empty = {"boxes": np.zeros((0, 4), np.float32), "scores": np.zeros(0, np.float32)}
    yield "soft_nms", {"iou_threshold": 0.3}, empty


def other_nms_cases(rng: np.random.Generator) -> Iterator[Case]:
    for threshold in (0.3, 0.6):
        dets = np.concatenate([_boxes(rng, 120), rng.random((120, 1), np.float32)], 1)
        yield "nms_match", {"iou_threshold": threshold}, {"dets": dets}
    for nms_type, extra in (
        ("nms", {}),
        ("soft_nms", {"min_score": 0.05}),
        ("nms", {"split_thr": 9}),
    ):
        inputs = {
            "boxes": _boxes(rng, 200, clusters=2),
            "scores": rng.random(200, np.float32),
            "labels": rng.integers(0, 4, 200),
        }
        yield "batched_nms", {"type": nms_type, "iou_threshold": 0.4, **extra}, inputs


def _rois(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    """Boxes of all kinds: inside, across the border, outside, empty, huge."""
    corners = rng.uniform(-0.2, 0.9, (8, 2)) * (width, height)
    boxes = np.concatenate([corners, corners + rng.uniform(0.05, 0.7, (8, 2)) * (width, height)], 1)
    special = [
        [0, 0, width, height],
        [-3 * width, -2 * height, 3 * width, 2 * height],
        [3, 3, 3, 3],
        [width + 50, height + 50, width + 90, height + 90],
        [4.25, 5.5, 4.5, 6],
    ]
    boxes = np.concatenate([boxes, np.array(special)])
    image = rng.integers(0, 2, (len(boxes), 1))
    return np.concatenate([image, boxes], 1).astype(np.float32)


def roi_cases(rng: np.random.Generator) -> Iterator[Case]:
    scale = 0.25
    for aligned, ratio, mode, bins in itertools.product(
        (True, False), (0, 2), ("avg", "max"), ((3, 2), (7, 7))
    ):
        if mode == "max" and bins == (7, 7):
            continue
        features, rois = _floats(rng, 2, 2, 9, 13), _rois(rng, 52, 36)
        grad = _floats(rng, len(rois), 2, *bins)
        params = {"output_size": bins, "spatial_scale": scale, "sampling_ratio": ratio}
        inputs = {"features": features, "rois": rois, "grad_output": grad}
        yield "roi_align", {**params, "pool_mode": mode, "aligned": aligned}, inputs
    for bins in ((3, 2), (7, 7)):
        features, rois = _floats(rng, 2, 2, 9, 13), _rois(rng, 52, 36)
        grad = _floats(rng, len(rois), 2, *bins)
        inputs = {"features": features, "rois": rois, "grad_output": grad}
        yield "roi_pool", {"output_size": bins, "spatial_scale": scale}, inputs
    for operator in ("roi_align", "roi_pool"):
        inputs = {
            "features": _floats(rng, 1, 2, 4, 4),
            "rois": np.zeros((0, 5), np.float32),
            "grad_output": np.zeros((0, 2, 2, 2), np.float32),
        }
        yield operator, {"output_size": (2, 2), "spatial_scale": 1.0}, inputs


def focal_cases(rng: np.random.Generator) -> Iterator[Case]:
    count, classes = 40, 5
    for operator, weighted, reduction in itertools.product(
        ("sigmoid_focal_loss", "softmax_focal_loss"), (False, True), ("none", "mean", "sum")
    ):
        # mmcv reads the weight of a background target, number `classes`, from behind the array
        background = operator == "sigmoid_focal_loss" and not weighted
        inputs = {
            "logits": 4 * _floats(rng, count, classes),
            "target": rng.integers(0, classes + background, count),
        }
        if weighted:
            inputs["weight"] = rng.random(classes, np.float32)
        shape = (count, classes) if operator == "sigmoid_focal_loss" else (count,)
        # softmax: mmcv multiplies the gradient (N, C) by grad_output (N,), which needs a scalar
        scalar = reduction != "none" or operator == "softmax_focal_loss"
        inputs["grad_output"] = np.float32(1.5) if scalar else _floats(rng, *shape)
        if operator == "softmax_focal_loss" and reduction == "none":
            continue
        gamma = 2.0 if reduction == "none" else 1.5
        yield operator, {"gamma": gamma, "alpha": 0.3, "reduction": reduction}, inputs


SIZE = (6, 7)


def conv_cases(rng: np.random.Generator) -> Iterator[Case]:
    geometries = (
        # kernel, stride, padding, dilation, groups, deform groups
        ((3, 3), (1, 1), (1, 1), (1, 1), 1, 1),
        ((3, 3), (2, 2), (1, 1), (1, 1), 2, 1),
        ((3, 3), (1, 1), (2, 2), (2, 2), 1, 2),
        ((3, 2), (2, 1), (0, 1), (1, 2), 2, 4),
        ((1, 1), (1, 1), (0, 0), (1, 1), 4, 2),
    )
    for number, (kernel, stride, padding, dilation, groups, deform_groups) in enumerate(geometries):
        size = [
            (extent + 2 * p - d * (k - 1) - 1) // s + 1
            for extent, k, s, p, d in zip(SIZE, kernel, stride, padding, dilation, strict=True)
        ]
        taps = kernel[0] * kernel[1] * deform_groups
        geometry = {
            "stride": stride, "padding": padding, "dilation": dilation,
            "groups": groups, "deform_groups": deform_groups,
        }  # fmt: skip
        offset = 2 * _floats(rng, 2, 2 * taps, *size)
        if number == 0:
            offset = np.round(offset)  # samples on pixels, on the border and one pixel outside
        inputs = {
            "input": _floats(rng, 2, 8, *SIZE),
            "offset": offset,
            "weight": _floats(rng, 4, 8 // groups, *kernel),
            "grad_output": _floats(rng, 2, 4, *size),
        }
        yield "deform_conv", geometry, inputs
        inputs = {**inputs, "mask": rng.random((2, taps, *size), np.float32)}
        if number % 2 == 0:
            inputs["bias"] = _floats(rng, 4)
        yield "modulated_deform_conv", geometry, inputs


def build_kernels(folder: Path) -> ctypes.CDLL:
    """Compile mmcv's CUDA kernels for roi_pool and the focal losses as plain C++."""
    import mmcv

    headers = Path(mmcv.__file__).parent / "ops" / "csrc" / "common" / "cuda"
    library = folder / "kernels.so"
    includes = [f"-I{HERE / 'kernels'}", f"-I{headers}"]
    source = ["-x", "c++", str(HERE / "kernels" / "kernels.cpp")]
    command = ["g++", "-O1", "-shared", "-fPIC", *includes, *source, "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


def _call(function: Any, *arguments: Any) -> None:
    def converted(argument: Any) -> Any:
        if argument is None:
            return ctypes.c_void_p(None)
        if isinstance(argument, np.ndarray):
            return ctypes.c_void_p(argument.ctypes.data)
        return ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int(argument)

    function(*map(converted, arguments))


def run_roi_pool(kernels: ctypes.CDLL, params: dict[str, Any], inputs: Arrays) -> Arrays:
    features, rois, grad_output = (inputs[name] for name in ("features", "rois", "grad_output"))
    output = np.zeros_like(grad_output)
    # The kernel leaves boxes without extent alone; from -1 they have no gradient.
    argmax = np.full(output.shape, -1, np.int32)
    grad = np.zeros_like(features)
    bins, shape = params["output_size"], features.shape[1:]
    scale = params["spatial_scale"]
    _call(
        kernels.roi_pool_forward, output.size, features, rois, output, argmax, *bins, scale, *shape
    )
    _call(kernels.roi_pool_backward, output.size, grad_output, rois, argmax, grad, *bins, *shape)
    return {"output": output, "grad_features": grad}


def run_focal(kernels: ctypes.CDLL, params: dict[str, Any], inputs: Arrays) -> Arrays:
    logits, target, weight = inputs["logits"], inputs["target"], inputs.get("weight")
    count, classes = logits.shape
    numbers = (params["gamma"], params["alpha"], classes)
    output, grad = np.zeros_like(logits), np.zeros_like(logits)
    _call(kernels.sigmoid_forward, logits.size, logits, target, weight, output, *numbers)
    _call(kernels.sigmoid_backward, logits.size, logits, target, weight, grad, *numbers)
    grad = grad * inputs["grad_output"]
    if params["reduction"] == "mean":
        output, grad = output.sum() / count, grad / count
    elif params["reduction"] == "sum":
        output = output.sum()
    return {"output": np.asarray(output, np.float32), "grad_logits": grad.astype(np.float32)}


def main() -> None:
    import mmcv
    import mmcv._ext as extension

    if extension.__file__ is None or mmcv.__version__ != "2.1.0":
        raise SystemExit("the fixtures are made with the full mmcv 2.1.0")
    for old in HERE.glob("*.npz"):
        old.unlink()
    rng = np.random.default_rng(20240501)
    makers = (nms_cases, soft_nms_cases, other_nms_cases, roi_cases, focal_cases, conv_cases)
    with tempfile.TemporaryDirectory() as folder:
        kernels = build_kernels(Path(folder))
        for number, (operator, params, inputs) in enumerate(
            case for maker in makers for case in maker(rng)
        ):
            if operator not in RUNNERS:
                continue  # softmax_focal_loss: only drawn, so that the cases behind it stay
            if operator in COMPILED_ON_CPU:
                outputs = RUNNERS[operator](params, inputs)
            elif operator == "roi_pool":
                outputs = run_roi_pool(kernels, params, inputs)
            else:
                outputs = run_focal(kernels, params, inputs)
            save_case(HERE / f"{operator}_{number:02d}.npz", operator, params, inputs, outputs)


if __name__ == "__main__":
    main()
