"""Convolutions on a CPU give what PyTorch's give."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn
from torch.nn import functional

from mmpanoptic.models.backbones import DeepLabResNet
from mmpanoptic.models.layers.cpu_convs import (
    FusedConv2d,
    TapGradientConv2d,
    fuse_activations,
    use_tap_gradients,
    weight_gradient,
)


def channels_last(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("kernel", [(3, 3), (1, 5)])
@pytest.mark.parametrize("dilation", [1, 2, 5, 12])
def test_gradient_of_weights(kernel, dilation):
    x, grad = channels_last(2, 6, 8, 11), channels_last(2, 4, 8, 11)
    weight = torch.randn(4, 6, *kernel, requires_grad=True)
    padding = tuple(n // 2 * dilation for n in kernel)
    functional.conv2d(x, weight, None, 1, padding, dilation).backward(grad)
    found = weight_gradient(x, grad, kernel, (dilation, dilation))
    torch.testing.assert_close(found, weight.grad, rtol=1e-5, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bias", [False, True])
def test_all_gradients_of_a_dilated_convolution(bias):
    conv = nn.Conv2d(6, 4, 3, padding=4, dilation=4, bias=bias).to(
        memory_format=torch.channels_last
    )
    other = copy.deepcopy(conv)
    use_tap_gradients(other)
    assert type(other) is TapGradientConv2d
    x = channels_last(2, 6, 9, 7)
    results = []
    for module in (conv, other):
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = module(leaf)
        y.square().sum().backward()
        results.append([y, leaf.grad, *(p.grad for p in module.parameters())])
    assert "TapGradient" in type(y.grad_fn).__name__
    for found, expected in zip(*results[::-1], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_go_tap_by_tap_stays():
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2),
    )
    use_tap_gradients(model)
    assert {type(conv) for conv in model} == {nn.Conv2d}


def test_plain_maps_autocast_and_frozen_weights_go_pytorchs_way():
    conv = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
    use_tap_gradients(conv)
    x = channels_last(1, 4, 8, 8)
    assert "TapGradient" in type(conv(x).grad_fn).__name__
    assert "TapGradient" not in type(conv(x.contiguous()).grad_fn).__name__
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16
    conv.requires_grad_(False)
    assert conv(x).grad_fn is None


def fold(model):
    """Leave identities where batch normalisations were."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
    return model.eval()


@pytest.mark.parametrize("depth", [18, 50])
def test_fused_blocks(depth):
    torch.manual_seed(0)
    model = fold(DeepLabResNet(depth, base_width=8, norm_cfg={"type": "BN"}, out_indices=(0, 3)))
    x = channels_last(2, 3, 64, 64)
    fused = copy.deepcopy(model)
    fuse_activations(fused)
    assert all(block.fused for block in fused.layer1)
    assert fused.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        results = list(zip(fused(x), model(x), strict=True))
        results += zip(fused(x.double().float().contiguous()), model(x), strict=True)
    for found, expected in results:
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    with torch.enable_grad():  # the fused call has no gradient, so it is not taken
        torch.testing.assert_close(fused(x)[1], expected, rtol=1e-5, atol=1e-5)


def test_norms_that_stay_are_not_passed_over():
    model = DeepLabResNet(18, base_width=8, norm_cfg={"type": "GN", "num_groups": 2}).eval()
    module = ConvModule(8, 8, 3, padding=1, norm_cfg={"type": "GN", "num_groups": 2}).eval()
    for part, x in ((model, channels_last(1, 3, 64, 64)), (module, channels_last(1, 8, 9, 9))):
        with torch.no_grad():
            expected = part(x)
            fuse_activations(part)
            found = part(x)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert not any(block.fused for block in model.layer1)
    assert isinstance(module.conv, FusedConv2d)
    assert not module.conv.relu


def test_no_rows_pass_a_fused_convolution():
    conv = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1))
    fuse_activations(conv)
    with torch.no_grad():
        assert conv(torch.zeros(0, 4, 8, 8)).shape == (0, 4, 8, 8)
