"""Multi-scale deformable attention through mmcv's function equals mmcv's own PyTorch form."""

import pytest
import torch

import mmpanoptic  # noqa: F401  makes mmcv.ops importable
from tests.ops.cases import provided_operators

SHAPES = [(6, 9), (3, 5), (2, 2)]


def example(dtype=torch.float32, seed=0):
    """Points inside, on the border and outside of levels of odd sizes."""
    generator = torch.Generator().manual_seed(seed)
    cells = sum(height * width for height, width in SHAPES)
    value = torch.randn(2, cells, 4, 8, generator=generator).to(dtype)
    places = torch.rand(2, 11, 4, len(SHAPES), 4, 2, generator=generator) * 1.4 - 0.2
    places[0, 0] = 0.0
    places[0, 1] = 1.0
    weights = torch.rand(2, 11, 4, len(SHAPES), 4, generator=generator).to(dtype)
    return [one.requires_grad_() for one in (value, places.to(dtype), weights)]


def run(inputs):
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    value, places, weights = inputs
    shapes = torch.tensor(SHAPES)
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    with provided_operators():
        return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, places, weights, 64)


def reference(inputs):
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(inputs[0], SHAPES, *inputs[1:])


@pytest.mark.parametrize("seed", [0, 1])
def test_output_and_gradients_are_mmcvs(seed):
    inputs = example(seed=seed)
    expected, got = reference(inputs), run(inputs)
    assert got.shape == (2, 11, 32)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(got.shape, generator=torch.Generator().manual_seed(9))
    gradients = (torch.autograd.grad(one, inputs, upstream) for one in (got, expected))
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_gradients_are_the_derivatives():
    inputs = example(torch.float64)
    chosen = [one.detach()[:1].clone().requires_grad_() for one in inputs]
    assert torch.autograd.gradcheck(lambda *parts: run(parts), chosen, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype):
    inputs = example(dtype)
    exact = reference([one.double() for one in inputs])
    got = run(inputs)
    assert got.dtype == dtype
    assert (got.double() - exact).abs().max() <= exact.abs().max() * torch.finfo(dtype).eps
