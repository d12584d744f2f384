"""Neck, semantic head, mask head and RPN of EfficientPS."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn import functional

from mmpanoptic.models.losses import HardPixelMiningLoss
from mmpanoptic.models.necks import TwoWayFPN
from mmpanoptic.models.semantic_heads import EfficientPSHead
from mmpanoptic.registry import MODELS

SIZES = [(18, 34), (9, 17), (5, 9), (3, 5)]


def pyramid(channels, batch=1):
    torch.manual_seed(0)
    return [torch.randn(batch, c, *size) for c, size in zip(channels, SIZES, strict=True)]


@pytest.mark.parametrize("separable", [False, True])
def test_levels_keep_their_sizes_and_more_can_be_added(separable):
    neck = TwoWayFPN((4, 6, 8, 10), 16, separable_out=separable, num_outs=6).eval()
    outs = neck(pyramid((4, 6, 8, 10)))
    assert [tuple(out.shape) for out in outs] == [
        (1, 16, *size) for size in [*SIZES, (2, 3), (1, 2)]
    ]
    assert torch.equal(outs[4], outs[3][..., ::2, ::2])


def test_both_output_convolutions_are_there():
    count = {
        separable: sum(p.numel() for p in TwoWayFPN((8,), 16, separable).fpn_convs.parameters())
        for separable in (False, True)
    }
    assert count == {False: 16 * 16 * 9 + 32, True: 16 * 9 + 32 + 16 * 16 + 32}


def test_fewer_outputs_than_inputs_are_refused():
    with pytest.raises(ValueError, match="num_outs=3"):
        TwoWayFPN((8, 8, 8, 8), 16, num_outs=3)


def test_logits_are_those_of_the_concatenated_branches():
    head = EfficientPSHead(5, in_channels=8, channels=4).eval()
    seen = []
    classify = head._classify
    head._classify = lambda branches: seen.extend(branches) or classify(branches)
    with torch.no_grad():
        logits = head(pyramid((8, 8, 8, 8)))
        branches = [
            functional.interpolate(x, size=SIZES[0], mode="bilinear", align_corners=False)
            for x in seen
        ]
        expected = head.conv_logits(torch.cat(branches, dim=1))
    assert torch.allclose(logits, expected, atol=1e-5)


def test_the_head_ignores_levels_beyond_the_fourth():
    head = EfficientPSHead(5, in_channels=8, channels=4).eval()
    feats = pyramid((8, 8, 8, 8))
    with torch.no_grad():
        assert torch.equal(head(feats), head([*feats, torch.randn(1, 8, 2, 3)]))


def test_pixels_compete_within_their_image_or_in_the_batch():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 6, 6)
    logits[1] *= 10
    target = torch.randint(0, 3, (2, 6, 6))
    each = functional.cross_entropy(logits, target, reduction="none").flatten(1)
    by_image = each.topk(9, dim=1).values.mean()
    by_batch = each.flatten().topk(18).values.mean()
    assert by_image < by_batch
    for mining, expected in (("image", by_image), ("batch", by_batch)):
        assert torch.allclose(HardPixelMiningLoss(0.25, mining=mining)(logits, target), expected)


def test_a_fraction_of_a_pixel_is_rounded_as_asked():
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 5).repeat(1, 2, 1, 1)
    logits[:, 0] = 0
    target = torch.zeros(1, 1, 5, dtype=torch.int64)
    each = functional.cross_entropy(logits, target, reduction="none").flatten()
    down = HardPixelMiningLoss(0.25)(logits, target)
    up = HardPixelMiningLoss(0.25, round_up=True)(logits, target)
    assert torch.allclose(down, each.topk(1).values.mean())
    assert torch.allclose(up, each.topk(2).values.mean())


def test_unknown_mining_is_refused():
    with pytest.raises(ValueError, match="batch, image"):
        HardPixelMiningLoss(mining="row")


def test_the_separable_rpn_has_the_outputs_of_the_ordinary_one():
    cfg = {
        "in_channels": 8,
        "feat_channels": 8,
        "anchor_generator": {
            "type": "mmdet.AnchorGenerator",
            "scales": [8],
            "ratios": [0.5, 1.0, 2.0],
            "strides": [4, 8],
        },
        "bbox_coder": {"type": "mmdet.DeltaXYWHBBoxCoder"},
        "loss_cls": {"type": "mmdet.CrossEntropyLoss", "use_sigmoid": True},
        "loss_bbox": {"type": "mmdet.SmoothL1Loss"},
    }
    feats = pyramid((8, 8, 8, 8))[:2]
    heads = [
        MODELS.build({"type": name, **cfg}).eval() for name in ("SeparableRPNHead", "mmdet.RPNHead")
    ]
    ours, plain = (head(feats) for head in heads)
    for mine, theirs in zip(ours, plain, strict=True):
        assert [x.shape for x in mine] == [x.shape for x in theirs]
    assert sum(p.numel() for p in heads[0].rpn_conv.parameters()) == 8 * 9 + 64 + 4 * 8
    norm = {"type": "GN", "num_groups": 4}
    grouped = MODELS.build({"type": "SeparableRPNHead", **cfg, "norm_cfg": norm})
    kinds = [type(m) for m in grouped.modules() if isinstance(m, nn.GroupNorm | nn.BatchNorm2d)]
    assert kinds == [nn.GroupNorm] * 2


def test_the_mask_head_can_be_class_agnostic():
    head = MODELS.build(
        {
            "type": "SeparableMaskHead",
            "num_classes": 5,
            "num_convs": 1,
            "in_channels": 6,
            "conv_out_channels": 4,
            "class_agnostic": True,
        }
    )
    assert head(torch.zeros(2, 6, 14, 14)).shape == (2, 1, 28, 28)


def test_backbone_neck_and_semantic_head_are_one_graph():
    cfg = {"type": "LeakyEfficientNet", "arch": "b0", "width_factor": 0.25, "depth_factor": 0.1}
    network = nn.Sequential(
        MODELS.build(cfg),
        TwoWayFPN((8, 16, 32, 320), 8, num_outs=5),
        EfficientPSHead(5, in_channels=8, channels=4),
    ).eval()
    torch._dynamo.reset()
    counter = CompileCounter()
    image = torch.randn(1, 3, 70, 100)
    with torch.no_grad():
        expected = network(image)
        compiled = torch.compile(network, backend=counter, fullgraph=True)(image)
    torch._dynamo.reset()
    assert counter.frame_count == 1
    assert torch.allclose(compiled, expected, atol=1e-5)
