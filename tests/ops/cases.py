"""Run an operator through the public API of mmcv: for fixtures, parity and live comparison."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

Arrays = dict[str, np.ndarray]

MMCV_MODULES = (
    "nms",
    "roi_align",
    "roi_pool",
    "focal_loss",
    "deform_conv",
    "modulated_deform_conv",
    "multi_scale_deform_attn",
)


@contextmanager
def provided_operators() -> Iterator[None]:
    """Make mmcv.ops use mmpanoptic's operators, also where a full mmcv is installed."""
    from mmpanoptic.ops.mmcv_ext import MODULE_NAME, ProvidedExtension

    importlib.import_module("mmcv.ops")
    modules = [sys.modules[f"mmcv.ops.{name}"] for name in MMCV_MODULES]
    before = [module.ext_module for module in modules]
    extension = ProvidedExtension(MODULE_NAME)
    for module in modules:
        module.ext_module = extension
    try:
        yield
    finally:
        for module, original in zip(modules, before, strict=True):
            module.ext_module = original


def save_case(path: Path, operator: str, params: dict[str, Any], inputs: Arrays, outputs: Arrays):
    header = np.array(json.dumps({"operator": operator, "params": params}))
    arrays = {f"in_{key}": value for key, value in inputs.items()}
    arrays |= {f"out_{key}": value for key, value in outputs.items()}
    np.savez_compressed(path, header=header, **arrays)


def load_case(path: Path) -> tuple[str, dict[str, Any], Arrays, Arrays]:
    with np.load(path, allow_pickle=False) as data:
        header = json.loads(str(data["header"]))
        inputs = {key[3:]: data[key] for key in data.files if key.startswith("in_")}
        outputs = {key[4:]: data[key] for key in data.files if key.startswith("out_")}
    return header["operator"], header["params"], inputs, outputs


def _leaves(inputs: Arrays, *names: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(inputs[name]).clone().requires_grad_() for name in names}


def _with_gradients(
    output: torch.Tensor, leaves: dict[str, torch.Tensor], grad_output: np.ndarray
) -> Arrays:
    grads = torch.autograd.grad(output, list(leaves.values()), torch.from_numpy(grad_output))
    named = {f"grad_{name}": grad.numpy() for name, grad in zip(leaves, grads, strict=True)}
    return {"output": output.detach().numpy(), **named}


def run_nms(params: dict[str, Any], inputs: Arrays) -> Arrays:
    from mmcv.ops import nms

    dets, indices = nms(inputs["boxes"], inputs["scores"], **params)
    return {"dets": dets, "indices": indices}


def run_soft_nms(params: dict[str, Any], inputs: Arrays) -> Arrays:
    from mmcv.ops import soft_nms

    dets, indices = soft_nms(inputs["boxes"], inputs["scores"], **params)
    return {"dets": dets, "indices": indices}


def run_batched_nms(params: dict[str, Any], inputs: Arrays) -> Arrays:
    from mmcv.ops import batched_nms

    tensors = (torch.from_numpy(inputs[name]) for name in ("boxes", "scores", "labels"))
    dets, indices = batched_nms(*tensors, params)
    return {"dets": dets.numpy(), "indices": indices.numpy()}


def run_nms_match(params: dict[str, Any], inputs: Arrays) -> Arrays:
    from mmcv.ops import nms_match

    groups = nms_match(inputs["dets"], **params)
    sizes = np.array([len(group) for group in groups], np.int64)
    return {"sizes": sizes, "members": np.concatenate([np.zeros(0, np.int64), *groups])}


def run_roi_align(params: dict[str, Any], inputs: Arrays) -> Arrays:
    from mmcv.ops import RoIAlign

    leaves = _leaves(inputs, "features")
    output = RoIAlign(**params)(leaves["features"], torch.from_numpy(inputs["rois"]))
    return _with_gradients(output, leaves, inputs["grad_output"])


def run_roi_pool(params: dict[str, Any], inputs: Arrays) -> Arrays:
    from mmcv.ops import RoIPool

    leaves = _leaves(inputs, "features")
    output = RoIPool(**params)(leaves["features"], torch.from_numpy(inputs["rois"]))
    return _with_gradients(output, leaves, inputs["grad_output"])


def run_sigmoid_focal_loss(params: dict[str, Any], inputs: Arrays) -> Arrays:
    from mmcv.ops import sigmoid_focal_loss

    leaves = _leaves(inputs, "logits")
    weight = torch.from_numpy(inputs["weight"]) if "weight" in inputs else None
    target = torch.from_numpy(inputs["target"])
    gamma, alpha, reduction = params["gamma"], params["alpha"], params["reduction"]
    output = sigmoid_focal_loss(leaves["logits"], target, gamma, alpha, weight, reduction)
    return _with_gradients(output, leaves, inputs["grad_output"])


GEOMETRY = ("stride", "padding", "dilation", "groups", "deform_groups")


def run_deform_conv(params: dict[str, Any], inputs: Arrays) -> Arrays:
    from mmcv.ops import deform_conv2d

    leaves = _leaves(inputs, "input", "offset", "weight")
    output = deform_conv2d(*leaves.values(), *(params[name] for name in GEOMETRY))
    return _with_gradients(output, leaves, inputs["grad_output"])


def run_modulated_deform_conv(params: dict[str, Any], inputs: Arrays) -> Arrays:
    from mmcv.ops import modulated_deform_conv2d

    names = [name for name in ("input", "offset", "mask", "weight", "bias") if name in inputs]
    leaves = _leaves(inputs, *names)
    bias = () if "bias" in leaves else (None,)
    geometry = (params[name] for name in GEOMETRY)
    output = modulated_deform_conv2d(*leaves.values(), *bias, *geometry)
    return _with_gradients(output, leaves, inputs["grad_output"])


RUNNERS: dict[str, Callable[[dict[str, Any], Arrays], Arrays]] = {
    "nms": run_nms,
    "soft_nms": run_soft_nms,
    "batched_nms": run_batched_nms,
    "nms_match": run_nms_match,
    "roi_align": run_roi_align,
    "roi_pool": run_roi_pool,
    "sigmoid_focal_loss": run_sigmoid_focal_loss,
    "deform_conv": run_deform_conv,
    "modulated_deform_conv": run_modulated_deform_conv,
}
"""Public operator to a function of parameters and inputs that returns outputs and gradients."""

COMPILED_ON_CPU = frozenset(RUNNERS) - {"roi_pool", "sigmoid_focal_loss"}
"""Operators that a full mmcv 2.1.0 has on the CPU; the others exist on the GPU only."""
