from __future__ import annotations

import sys
import types
import warnings

import numpy as np
import pytest
import torch

from mmpanoptic.ops import (
    MissingOperatorError,
    backend,
    describe_backends,
    name_backends,
    pytorch_only,
)
from mmpanoptic.ops.backends import TORCHVISION_NAMES, forget_trials, full_mmcv_installed
from mmpanoptic.ops.deform_sampling import Convolution, Problem, forward
from mmpanoptic.ops.mmcv_ext import IMPLEMENTED
from mmpanoptic.ops.nms import greedy_nms
from mmpanoptic.ops.roi_align import Pooling, average_pool, average_pool_grad
from tests.ops.cases import RUNNERS, load_case, provided_operators
from tests.ops.test_parity import FIXTURES

pytestmark = pytest.mark.skipif(full_mmcv_installed(), reason="a full mmcv comes first")


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features, rois, pooling):
        ctx.rois, ctx.pooling, ctx.shape = rois, pooling, features.shape
        return average_pool(features, rois, pooling)

    @staticmethod
    def backward(ctx, grad):
        grad_input = grad.new_zeros(ctx.shape)
        average_pool_grad(grad_input, grad, ctx.rois, ctx.pooling)
        return grad_input, None, None


class FakeTorchvision(types.ModuleType):
    """Stands in for torchvision.ops, with its signatures, and counts calls."""

    def __init__(self):
        super().__init__("torchvision.ops")
        self.calls = []

    def nms(self, boxes, scores, iou_threshold):
        self.calls.append("nms")
        assert boxes.dtype == scores.dtype
        assert isinstance(iou_threshold, float)
        return greedy_nms(boxes.double(), scores, iou_threshold)

    def roi_align(
        self, input, boxes, output_size, spatial_scale=1.0, sampling_ratio=-1, aligned=False
    ):
        self.calls.append("roi_align")
        assert input.dtype == boxes.dtype
        return _Pool.apply(
            input, boxes, Pooling(output_size, spatial_scale, sampling_ratio, aligned)
        )

    def deform_conv2d(
        self, input, offset, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1),
        mask=None,
    ):  # fmt: skip
        self.calls.append("deform_conv2d")
        kernel, groups = tuple(weight.shape[2:]), input.size(1) // weight.size(1)
        deform_groups = offset.size(1) // (2 * kernel[0] * kernel[1])
        conv = Convolution(kernel, stride, padding, dilation, groups, deform_groups)
        output = input.new_empty(input.size(0), weight.size(0), *offset.shape[2:])
        forward(Problem(input, offset, mask, weight, conv), output, bias)
        return output


@pytest.fixture(autouse=True)
def fresh_trials():
    forget_trials()
    yield
    forget_trials()


@pytest.fixture
def torchvision(monkeypatch):
    fake = FakeTorchvision()
    package = types.ModuleType("torchvision")
    package.ops = fake
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.ops", fake)
    return fake


@pytest.fixture
def no_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.delitem(sys.modules, "torchvision.ops", raising=False)


@pytest.mark.usefixtures("no_torchvision")
def test_without_torchvision_all_is_pytorch():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert describe_backends() == dict.fromkeys(sorted(IMPLEMENTED), "pytorch")


def test_torchvision_is_used_where_its_numbers_are_the_same(torchvision):
    described = describe_backends()
    assert {name for name, used in described.items() if used == "torchvision"} == set(
        TORCHVISION_NAMES
    )
    assert torchvision.calls  # it was tried before
    with pytorch_only():
        assert set(describe_backends().values()) == {"pytorch"}


@pytest.mark.usefixtures("torchvision")
def test_a_line_names_the_backends():
    assert name_backends() == (
        "pytorch: deform_conv_backward, modulated_deform_conv_backward, ms_deform_attn, "
        "nms_match, roi_pool, sigmoid_focal_loss, softnms; "
        "torchvision: deform_conv_forward, modulated_deform_conv_forward, nms, roi_align"
    )


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        ("nms", "nms"),
        ("roi_align", "roi_align"),
        ("deform_conv", "deform_conv2d"),
        ("modulated_deform_conv", "deform_conv2d"),
    ],
)
def test_results_through_torchvision_equal_mmcv(torchvision, operator, name):
    used = 0
    for path in FIXTURES:
        found, params, inputs, expected = load_case(path)
        if found != operator:
            continue
        backend("nms"), backend("roi_align_forward"), backend("deform_conv_forward")
        torchvision.calls.clear()
        with provided_operators():
            got = RUNNERS[operator](params, inputs)
        used += torchvision.calls.count(name)
        for key, value in expected.items():
            np.testing.assert_allclose(got[key], value, rtol=1e-5, atol=1e-5)
    assert used > 0


def test_nms_with_offset_and_max_pooling_stay_pytorch(torchvision):
    from mmcv.ops import nms, roi_align

    backend("nms"), backend("roi_align_forward")
    torchvision.calls.clear()
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4]])
    nms(boxes, torch.tensor([0.5, 0.9]), 0.5, offset=1)
    roi_align(torch.rand(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 2, 2]]), 1, 1.0, 1, "max", True)
    assert torchvision.calls == []


def test_half_precision_boxes_reach_torchvision_in_float32(torchvision):
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4]], dtype=torch.bfloat16)
    assert nms(boxes, torch.tensor([0.5, 0.9]).bfloat16(), 0.5)[1].tolist() == [1]
    assert "nms" in torchvision.calls


@pytest.mark.parametrize("broken", ["raises", "wrong", "lacks"])
def test_an_unusable_torchvision_is_reported_and_not_used(torchvision, monkeypatch, broken):
    def nms(boxes, scores, iou_threshold):
        if broken == "raises":
            raise RuntimeError("operator torchvision::nms does not exist")
        return torch.arange(len(boxes))

    monkeypatch.setattr(torchvision, "nms", nms, raising=False)
    if broken == "lacks":
        monkeypatch.setattr(FakeTorchvision, "nms", property(), raising=False)
        monkeypatch.delattr(torchvision, "nms", raising=False)
    with pytest.warns(UserWarning, match=r"torchvision\.ops\.nms is installed but not usable"):
        assert backend("nms") == "pytorch"
    with warnings.catch_warnings():  # once is enough
        warnings.simplefilter("error")
        assert backend("nms") == "pytorch"
    assert backend("roi_align_forward") == "torchvision"


def test_a_torchvision_that_fails_to_import_is_reported(monkeypatch):
    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.startswith("torchvision"):
                raise OSError("libtorch.so: undefined symbol")

    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.delitem(sys.modules, "torchvision.ops", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    with pytest.warns(UserWarning, match="undefined symbol"):
        assert backend("nms") == "pytorch"


def test_an_unknown_operator_has_no_backend():
    with pytest.raises(MissingOperatorError, match="'carafe_forward'"):
        backend("carafe_forward")
