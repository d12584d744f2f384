"""What holds for every operator: precision, devices, empty inputs, agreement with mmcv's calls."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from mmpanoptic.ops import pytorch_only
from mmpanoptic.ops.mmcv_ext import IMPLEMENTED, MODULE_NAME, ProvidedExtension
from tests.ops import cases
from tests.ops.cases import RUNNERS, load_case, provided_operators
from tests.ops.test_parity import FIXTURES

DISCRETE = {"nms", "nms_match", "soft_nms", "batched_nms"}
SMOOTH = sorted(set(RUNNERS) - DISCRETE)


def example(operator: str):
    """Return the largest case of an operator."""
    paths = [path for path in FIXTURES if load_case(path)[0] == operator]
    path = max(paths, key=lambda path: sum(v.size for v in load_case(path)[2].values()))
    return load_case(path)


@functools.cache
def mmcv_calls() -> dict[str, list[ast.Call]]:
    """Calls ``ext_module.<operator>(...)`` in the sources of mmcv.ops."""
    import mmcv.ops

    calls: dict[str, list[ast.Call]] = {}
    for path in Path(mmcv.ops.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "ext_module"
            ):
                calls.setdefault(node.func.attr, []).append(node)
    return calls


@pytest.mark.parametrize("operator", sorted(IMPLEMENTED))
def test_operator_takes_what_mmcv_passes(operator):
    function = getattr(ProvidedExtension(MODULE_NAME), operator)
    assert function.__module__ == f"mmpanoptic.ops.{IMPLEMENTED[operator]}"
    assert function.__doc__
    assert f"mmcv._ext.{operator}" in function.__doc__
    signature = inspect.signature(function)
    calls = mmcv_calls()[operator]
    assert calls
    for call in calls:
        starred = any(isinstance(arg, ast.Starred) for arg in call.args)
        if not starred and all(keyword.arg for keyword in call.keywords):
            signature.bind(*call.args, **{k.arg: k.value for k in call.keywords})


def run_in(dtype, operator, params, inputs, monkeypatch):
    """Run a case with its floating inputs, boxes excepted, in a type; tensors by name."""
    seen = {}

    def leaves(arrays, *names):
        return {name: torch.from_numpy(arrays[name]).to(dtype).requires_grad_() for name in names}

    def with_gradients(output, found, grad_output):
        grad_output = torch.from_numpy(np.asarray(grad_output)).to(output.dtype)
        grads = torch.autograd.grad(output, list(found.values()), grad_output)
        seen.update({f"grad_{name}": grad for name, grad in zip(found, grads, strict=True)})
        return seen | {"output": output.detach()}

    with monkeypatch.context() as patch, provided_operators():
        patch.setattr(cases, "_leaves", leaves)
        patch.setattr(cases, "_with_gradients", with_gradients)
        return RUNNERS[operator](params, inputs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("operator", SMOOTH)
def test_precision_of_inputs_is_kept_and_only_results_are_rounded(operator, dtype, monkeypatch):
    _, params, inputs, _ = example(operator)
    if "logits" in inputs:  # far from zero, log(1 - p) loses digits, in mmcv as here
        inputs["logits"] = inputs["logits"] / 8
    fixed = ("target", "rois")
    rounded = {
        name: value if name in fixed else torch.from_numpy(value).to(dtype).double().numpy()
        for name, value in inputs.items()
    }
    expected = run_in(torch.float64, operator, params, rounded, monkeypatch)
    got = run_in(dtype, operator, params, rounded, monkeypatch)
    tolerance = 1e-6 + torch.finfo(dtype).eps
    if operator.endswith("focal_loss"):
        # mmcv's own Python reduces and scales the losses in the precision of the inputs
        tolerance += 4 * torch.finfo(dtype).eps
    for name, value in got.items():
        assert value.dtype == dtype, name
        scale = float(expected[name].abs().max().clamp(min=1))
        error = float((value.double() - expected[name]).abs().max()) / scale
        assert error <= tolerance, (name, error)


@pytest.mark.parametrize("operator", sorted(RUNNERS))
def test_autocast_changes_nothing_for_float32(operator):
    _, params, inputs, _ = example(operator)
    with provided_operators():
        expected = RUNNERS[operator](params, inputs)
        with torch.autocast("cpu", torch.bfloat16):
            got = RUNNERS[operator](params, inputs)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)


@pytest.mark.parametrize("operator", sorted(RUNNERS))
def test_small_chunks_give_the_same(operator, monkeypatch):
    _, params, inputs, expected = example(operator)
    for module, name, size in (
        ("roi_align", "MAX_ENTRIES", 64),
        ("roi_pool", "MAX_VALUES", 64),
        ("deform_sampling", "MAX_VALUES", 64),
        ("nms", "BLOCK", 7),
        ("nms", "TILE", 2),
    ):
        monkeypatch.setattr(importlib.import_module(f"mmpanoptic.ops.{module}"), name, size)
    with provided_operators(), pytorch_only():
        got = RUNNERS[operator](params, inputs)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("operator", SMOOTH)
def test_results_are_the_same_every_time(operator):
    _, params, inputs, _ = example(operator)
    with provided_operators():
        first, second = (RUNNERS[operator](params, inputs) for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_cuda_equals_cpu(path, monkeypatch):
    operator, params, inputs, expected = load_case(path)
    if operator in ("soft_nms", "nms_match"):
        pytest.skip("mmcv computes these on the CPU always")
    original = torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda array: original(array).cuda())
    monkeypatch.setattr(torch.Tensor, "numpy", lambda tensor: np.asarray(tensor.tolist()))
    with provided_operators(), pytorch_only():
        got = RUNNERS[operator](params, inputs)
    for name, value in expected.items():
        shaped = np.asarray(got[name]).reshape(value.shape)
        np.testing.assert_allclose(shaped, value, rtol=1e-4, atol=1e-4)
