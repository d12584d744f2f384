"""The public modules and functions of mmcv.ops on top of the operators."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from torch import nn

from mmpanoptic.ops import pytorch_only
from tests.ops.cases import provided_operators
from tests.reference import ops as reference


@pytest.fixture(autouse=True)
def ours():
    with provided_operators():
        yield


def doubles(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


ROIS = torch.tensor(
    [[0, 0.3, 0.2, 3.7, 4.1], [1, -2.0, 1.0, 2.0, 9.0], [0, 2.2, 2.1, 2.9, 2.7]],
    dtype=torch.float64,
)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align_gradient(aligned, ratio, mode):
    from mmcv.ops import RoIAlign

    pool = RoIAlign(2, 1.0, ratio, mode, aligned)
    assert torch.autograd.gradcheck(lambda features: pool(features, ROIS), doubles(2, 2, 5, 6))


def test_roi_pool_gradient():
    from mmcv.ops import RoIPool

    pool = RoIPool(2, 1.0)
    assert torch.autograd.gradcheck(lambda features: pool(features, ROIS), doubles(2, 2, 5, 6))


@pytest.mark.parametrize("weighted", [False, True])
def test_focal_loss_gradient(weighted):
    from mmcv.ops import SigmoidFocalLoss

    weight = torch.rand(3, dtype=torch.float64) if weighted else None
    function = SigmoidFocalLoss(2.0, 0.25, weight)
    target = torch.tensor([0, 2, 1, 1])
    assert torch.autograd.gradcheck(lambda logits: function(logits, target), doubles(4, 3))


def test_a_background_target_has_weight_one():
    from mmcv.ops import sigmoid_focal_loss

    logits, target = torch.randn(3, 2), torch.tensor([2, 2, 2])
    weight = torch.tensor([5.0, 7.0])
    plain = sigmoid_focal_loss(logits, target, 2.0, 0.25, None, "none")
    weighted = sigmoid_focal_loss(logits, target, 2.0, 0.25, weight, "none")
    torch.testing.assert_close(weighted, plain)


def test_extreme_logits_have_finite_losses_and_gradients():
    from mmcv.ops import sigmoid_focal_loss

    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([0, 0]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_deform_conv_gradient():
    from mmcv.ops import deform_conv2d

    inputs = doubles(1, 4, 4, 5), doubles(1, 36, 4, 5, seed=1), doubles(2, 2, 3, 3, seed=2)
    function = lambda *tensors: deform_conv2d(*tensors, 1, 1, 1, 2, 2)  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)


def test_modulated_deform_conv_gradient():
    from mmcv.ops import modulated_deform_conv2d

    inputs = (
        doubles(2, 4, 4, 5),
        doubles(2, 36, 4, 5, seed=1),
        doubles(2, 18, 4, 5, seed=2),
        doubles(2, 2, 3, 3, seed=3),
        doubles(2, seed=4),
    )
    function = lambda *tensors: modulated_deform_conv2d(*tensors, 1, 1, 1, 2, 2)  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["DeformConv2dPack", "ModulatedDeformConv2dPack"])
def test_packs_without_offsets_are_convolutions(name, stride):
    import mmcv.ops

    torch.manual_seed(0)
    pack = getattr(mmcv.ops, name)(4, 6, 3, stride=stride, padding=1)
    image = torch.randn(2, 4, 9, 7)
    factor = 0.5 if name.startswith("Modulated") else 1.0  # the sigmoid of zero
    expected = factor * nn.functional.conv2d(image, pack.weight, stride=stride, padding=1)
    torch.testing.assert_close(pack(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["DeformConv2dPack", "ModulatedDeformConv2dPack"])
def test_packs_train_under_autocast(name):
    import mmcv.ops

    torch.manual_seed(0)
    pack = getattr(mmcv.ops, name)(4, 6, 3, padding=1)
    image = torch.randn(2, 4, 9, 7)
    expected = pack(image)
    with torch.autocast("cpu", torch.bfloat16):
        output = pack(image)
    output.float().square().mean().backward()
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=0.02, atol=0.02)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in pack.parameters())


def test_a_wrong_offset_is_an_error_that_names_it():
    from mmcv.ops import deform_conv2d

    with pytest.raises(ValueError, match=r"offset has shape \(1, 18, 4, 4\).*\(1, 18, 5, 5\)"):
        deform_conv2d(torch.rand(1, 2, 5, 5), torch.rand(1, 18, 4, 4), torch.rand(2, 2, 3, 3), 1, 1)


def test_channels_that_do_not_fit_the_groups_are_an_error():
    from mmcv.ops import deform_conv2d

    with pytest.raises(ValueError, match="check in_channels, groups and deform_groups"):
        deform_conv2d(torch.rand(1, 3, 5, 5), torch.rand(1, 18, 5, 5), torch.rand(2, 2, 3, 3), 1, 1)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align_equals_the_plain_procedure(aligned, ratio):
    from mmcv.ops import roi_align

    features = torch.randn(2, 3, 20, 30)
    corners = torch.rand(40, 2) * torch.tensor([70.0, 50]) - 10
    rois = torch.cat([torch.randint(0, 2, (40, 1)), corners, corners + torch.rand(40, 2) * 60], 1)
    plain = reference.RoIAlign(7, 0.5, ratio, aligned)
    features.requires_grad_()
    output = roi_align(features, rois, 7, 0.5, ratio, "avg", aligned)
    grad = torch.randn_like(output)
    (got,) = torch.autograd.grad(output, features, grad)
    torch.testing.assert_close(output, plain.forward(features.detach(), rois))
    torch.testing.assert_close(got, plain.backward(grad, features.shape, rois))


@pytest.mark.parametrize("box", [[9.0, 9, 1, 1], [float("nan")] * 4, [float("inf")] * 4])
def test_boxes_without_samples_give_zeros(box):
    from mmcv.ops import roi_align, roi_pool

    features, rois = torch.ones(1, 2, 8, 8), torch.tensor([[0.0, *box]])
    assert (roi_align(features, rois, 2, 1.0, 0, "avg", True) == 0).all()
    assert (roi_pool(features, rois, 2, 1.0) == 0).all()


def test_a_box_outside_the_map_has_no_gradient():
    from mmcv.ops import roi_pool

    features = torch.rand(1, 1, 4, 4, requires_grad=True)
    roi_pool(features, torch.tensor([[0.0, 3, 3, 1, 1]]), 2, 1.0).sum().backward()
    assert (features.grad == 0).all()


@pytest.mark.parametrize("threshold", [-0.1, 0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("offset", [0, 1])
def test_nms_equals_the_greedy_loop(offset, threshold):
    from mmcv.ops import nms

    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 100, (1500, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(-5, 60, (1500, 2))], 1)
    boxes = boxes.round().astype(np.float32)
    scores = rng.integers(1, 50, 1500).astype(np.float32)
    kept = nms(boxes, scores, threshold, offset)[1]
    np.testing.assert_array_equal(kept, reference.greedy_nms(boxes, scores, threshold, offset))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_nms_takes_other_precisions(dtype):
    from mmcv.ops import batched_nms, soft_nms

    boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]], dtype=dtype)
    scores = torch.tensor([0.5, 0.75, 0.25], dtype=dtype)
    dets, kept = batched_nms(boxes, scores, torch.tensor([0, 0, 1]), {"iou_threshold": 0.5})
    assert kept.tolist() == [1, 2]
    assert dets.dtype == dtype
    assert soft_nms(boxes, scores, method="naive")[1].tolist() == [1, 2]


@pytest.mark.parametrize("max_pairs", [1 << 24, 5000])
def test_nms_by_all_pairs_equals_nms_by_tiles(monkeypatch, max_pairs):
    from mmcv.ops import nms

    module = importlib.import_module("mmpanoptic.ops.nms")
    corners = torch.rand(2000, 2) * 100
    boxes = torch.cat([corners, corners + torch.rand(2000, 2) * 40], 1)
    scores = torch.rand(2000)
    with pytorch_only():
        expected = nms(boxes, scores, 0.4)[1]
        monkeypatch.setattr(module, "_narrows", lambda device: False)  # as on a GPU
        monkeypatch.setattr(module, "MAX_PAIRS", max_pairs)
        assert torch.equal(nms(boxes, scores, 0.4)[1], expected)


def test_chains_of_overlaps_are_decided_in_order():
    from mmcv.ops import nms

    count = 1200
    left = torch.arange(count, dtype=torch.float32)[:, None] * 4
    boxes = torch.cat([left, left * 0, left + 10, left * 0 + 10], 1)
    scores = torch.linspace(1, 0, count)
    kept = nms(boxes, scores, 0.3)[1]  # a neighbour's IoU is 6 / 14, the next one's 2 / 18
    assert kept.tolist() == list(range(0, count, 2))


def test_boxes_that_are_no_numbers_suppress_nothing_and_hide_nothing():
    from mmcv.ops import nms

    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (900, 2))
    boxes = np.concatenate([corners, corners + 20], 1).astype(np.float32)
    scores = (rng.permutation(900) / 900).astype(np.float32)
    broken = boxes.copy()
    broken[::9] = np.nan
    kept = set(nms(broken, scores, 0.5)[1].tolist())
    others = np.setdiff1d(np.arange(900), np.arange(0, 900, 9))
    expected = others[reference.greedy_nms(boxes[others], scores[others], 0.5, 0)]
    assert kept - set(range(0, 900, 9)) == set(expected.tolist())


def test_nms_match_groups_cover_all_boxes_once():
    from mmcv.ops import nms_match

    corners = torch.rand(50, 2) * 30
    dets = torch.cat([corners, corners + 20, torch.rand(50, 1)], 1)
    groups = nms_match(dets, 0.4)
    assert sorted(i for group in groups for i in group.tolist()) == list(range(50))
