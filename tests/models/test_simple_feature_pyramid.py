"""The pyramid of a plain transformer: sizes, what each level sees, gradients."""

import pytest
import torch
from torch import nn

from mmpanoptic.models.necks import SimpleFeaturePyramid


def test_levels_have_four_times_to_a_quarter_of_the_resolution():
    neck = SimpleFeaturePyramid([8, 32], out_channels=12, num_outs=5)
    last = torch.randn(2, 32, 6, 8, requires_grad=True)
    outs = neck((torch.randn(2, 8, 12, 16), last))
    sizes = [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)]
    assert [tuple(level.shape) for level in outs] == [(2, 12, *size) for size in sizes]
    assert torch.equal(outs[4], outs[3][:, :, ::2, ::2])
    sum(level.square().sum() for level in outs).backward()
    assert all(one.grad is not None for one in (last, *neck.parameters()))


def test_a_level_is_computed_as_the_paper_says():
    neck = SimpleFeaturePyramid(16, out_channels=8, num_outs=4).eval()
    image = torch.randn(1, 16, 4, 4)
    level = neck.levels[3]
    with torch.no_grad():
        for norm in (level[1], level[3]):
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
        mean = nn.functional.max_pool2d(image, 2)
        for conv, norm in ((level[0], level[1]), (level[2], level[3])):
            mean = conv(mean)
            centred = mean - mean.mean(1, keepdim=True)
            scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
            mean = scaled * norm.weight[:, None, None] + norm.bias[:, None, None]
        torch.testing.assert_close(neck((image,))[3], mean)


def test_too_few_levels_are_refused():
    with pytest.raises(ValueError, match="at least 4 levels, got num_outs=3"):
        SimpleFeaturePyramid(16, num_outs=3)
