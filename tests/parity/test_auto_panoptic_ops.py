"""Single operations of Auto-Panoptic against numbers of the published implementation."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from mmpanoptic.models.backbones import ShuffleNetV2Plus
from mmpanoptic.models.backbones.shufflenet_v2_plus import BLOCK_OPS, ShuffleBlock
from mmpanoptic.models.layers.head_ops import HEAD_OPS, HeadOp
from mmpanoptic.models.segmentors.auto_panoptic import PUBLISHED_REDUCTIONS, AttentionUnit
from mmpanoptic.ops import pytorch_only
from tests.golden import Golden, golden_cases
from tests.ops.cases import provided_operators
from tests.parity.auto_panoptic_weights import SYSTEM, block_name, fill, head_op_name

UNITS = dict(zip(("Inter-r4", "Inter-r8", "Inter-r16"), PUBLISHED_REDUCTIONS, strict=True))
FILES = golden_cases(SYSTEM, "ops*.npz")


@contextlib.contextmanager
def pure_pytorch():
    """Our operators, also where a compiled mmcv is installed."""
    with provided_operators(), pytorch_only():
        yield


OPERATORS = {"installed": contextlib.nullcontext, "pytorch": pure_pytorch}


@pytest.mark.parametrize("operators", OPERATORS)
@pytest.mark.parametrize("op", HEAD_OPS)
@pytest.mark.parametrize("path", FILES)
def test_head_operation(path, op, operators):
    data = Golden(path)
    x, expected = torch.from_numpy(data["head_in"]), data[f"head_{op}"]
    norm_cfg = {"type": "GN", "num_groups": 32}
    module = fill(
        HeadOp(op, x.shape[1], expected.shape[1], norm_cfg), lambda name: head_op_name(op, name)
    )
    with OPERATORS[operators](), torch.no_grad():
        data.close("auto_panoptic.head_operation", f"head_{op}", module(x))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("op", BLOCK_OPS)
@pytest.mark.parametrize("path", FILES)
def test_backbone_block(path, op, stride):
    data = Golden(path)
    x, expected = torch.from_numpy(data["block_in"]), data[f"block_{op}_s{stride}"]
    block = ShuffleBlock(op, x.shape[1], expected.shape[1], stride, {"type": "BN"})
    fill(block, lambda name: block_name(op, name))
    with torch.no_grad():
        data.close("auto_panoptic.block", f"block_{op}_s{stride}", block(x))


@pytest.mark.parametrize("path", FILES)
def test_stem(path):
    data = Golden(path)
    x, expected = torch.from_numpy(data["block_in"]), data["stem"]
    conv = nn.Conv2d(x.shape[1], expected.shape[1], 3, 2, 1)
    stem = nn.Module()
    stem.conv, stem.bn = conv, nn.BatchNorm2d(expected.shape[1])
    fill(stem, lambda name: f"stem.{name}")
    # The rest of the network is cut off: what is left is the stem as the backbone applies it.
    backbone = ShuffleNetV2Plus(
        (expected.shape[1], expected.shape[1] + 2), (1,), [0], BLOCK_OPS, (0,)
    )
    backbone.stem, backbone.stem_bn = stem.conv, stem.bn
    backbone.blocks[0] = nn.Identity()
    with torch.no_grad():
        data.close("auto_panoptic.stem", "stem", backbone.eval()(x)[0])


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("path", FILES)
def test_attention_unit(path, unit):
    data = Golden(path)
    x, expected = torch.from_numpy(data["se_in"]), data[f"se_{unit}"]
    module = AttentionUnit(x.shape[1], expected.shape[1], UNITS[unit])
    assert module.fc[0].out_features == data[f"se_{unit}_hidden"].item()
    fill(module, lambda name: f"inter.{unit}.{name}")
    with torch.no_grad():
        data.close("auto_panoptic.attention_unit", f"se_{unit}", module(x))
