"""Published names of ImageNet weights of all backbones."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import torch

from mmpanoptic.models.layers.inplace_abn import ABN_EPS, BACKBONE_ABN_EPS, fold_abn_scale

from .errors import CheckpointMismatchError
from .key_map import KeyMap, Layout, Rules

PART = r"backbone\."
BARE: Rules = ((r"^backbone\.", ""),)
"""The names of most files are ours without ``backbone.``."""

# ResNet. Our stem of three convolutions is a sequence of convolution, norm, ReLU.
_DEEP_STEM, _IS_RESNET = r"backbone\.stem\.3\.", r"backbone\.layer4\."
_DETECTRON2_BLOCKS: Rules = (
    (r"^backbone\.layer(\d)\.", lambda m: f"backbone.res{int(m[1]) + 1}."),
    (r"^(backbone\.res\d\.\d+)\.bn(\d)\.", r"\1.conv\2.norm."),
    (r"^(backbone\.res\d\.\d+)\.downsample\.0\.", r"\1.shortcut."),
    (r"^(backbone\.res\d\.\d+)\.downsample\.1\.", r"\1.shortcut.norm."),
)
DETECTRON2_DEEP_RESNET: Rules = (
    (
        r"^backbone\.stem\.(\d)\.",
        lambda m: f"backbone.stem.conv{int(m[1]) // 3 + 1}." + "norm." * (int(m[1]) % 3),
    ),
    *_DETECTRON2_BLOCKS,
)
DETECTRON2_RESNET: Rules = (
    (r"^backbone\.conv1\.", "backbone.stem.conv1."),
    (r"^backbone\.bn1\.", "backbone.stem.conv1.norm."),
    *_DETECTRON2_BLOCKS,
)
DETECTRON2_FPN: Rules = (
    *DETECTRON2_RESNET,
    (r"^backbone\.", "backbone.bottom_up."),
    (r"^neck\.lateral_convs\.(\d)\.conv\.", lambda m: f"backbone.fpn_lateral{int(m[1]) + 2}."),
    (r"^neck\.fpn_convs\.(\d)\.conv\.", lambda m: f"backbone.fpn_output{int(m[1]) + 2}."),
)
"""ResNet with feature pyramid in whole models of detectron2."""
TIMM_DEEP_RESNET: Rules = (
    (r"^backbone\.stem\.([0-6])\.", r"backbone.conv1.\1."),
    (r"^backbone\.stem\.7\.", "backbone.bn1."),
)

TIMM_XCEPTION: Rules = (
    (r"^backbone\.(conv|bn)([12])\.", lambda m: f"backbone.stem.{int(m[2]) - 1}.{m[1]}."),
    (r"^backbone\.block(\d+)\.", lambda m: f"backbone.blocks.{int(m[1]) - 1}."),
    (r"^(backbone\.blocks\.\d+)\.(conv|bn)\.", r"\1.shortcut.\2."),
    (r"\.sep_conv(\d)\.block\.", r".stack.conv\1."),
    (r"\.depthwise\.", ".conv_dw."),
    (r"\.bn_depth\.", ".bn_dw."),
    (r"\.pointwise\.", ".conv_pw."),
    (r"\.bn_point\.", ".bn_pw."),
)

# EfficientNet; blocks are numbered by BackboneKeyMap.name. The first stage has no expansion.
_FIRST, _BLOCK = r"(blocks\.0\.\d+)\.", r"(blocks\.\d+\.\d+)\."
TIMM_EFFICIENTNET: Rules = (
    (_FIRST + r"depthwise_conv\.conv\.", r"\1.conv_dw."),
    (_FIRST + r"depthwise_conv\.bn\.", r"\1.bn1."),
    (_FIRST + r"linear_conv\.conv\.", r"\1.conv_pw."),
    (_FIRST + r"linear_conv\.bn\.", r"\1.bn2."),
    (_BLOCK + r"expand_conv\.conv\.", r"\1.conv_pw."),
    (_BLOCK + r"expand_conv\.bn\.", r"\1.bn1."),
    (_BLOCK + r"depthwise_conv\.conv\.", r"\1.conv_dw."),
    (_BLOCK + r"depthwise_conv\.bn\.", r"\1.bn2."),
    (_BLOCK + r"linear_conv\.conv\.", r"\1.conv_pwl."),
    (_BLOCK + r"linear_conv\.bn\.", r"\1.bn3."),
    (r"^backbone\.layers\.0\.conv\.", "backbone.conv_stem."),
    (r"^backbone\.layers\.0\.bn\.", "backbone.bn1."),
    (r"^backbone\.layers\.6\.conv\.", "backbone.conv_head."),
    (r"^backbone\.layers\.6\.bn\.", "backbone.bn2."),
)
LUKEMELAS_EFFICIENTNET: Rules = (
    (r"\.expand_conv\.conv\.", "._expand_conv."),
    (r"\.expand_conv\.bn\.", "._bn0."),
    (r"\.depthwise_conv\.conv\.", "._depthwise_conv."),
    (r"\.depthwise_conv\.bn\.", "._bn1."),
    (r"\.linear_conv\.conv\.", "._project_conv."),
    (r"\.linear_conv\.bn\.", "._bn2."),
    (r"^backbone\.layers\.0\.conv\.", "_conv_stem."),
    (r"^backbone\.layers\.0\.bn\.", "_bn0."),
    (r"^backbone\.layers\.6\.conv\.", "_conv_head."),
    (r"^backbone\.layers\.6\.bn\.", "_bn1."),
)
_OUR_BLOCK = r"backbone\.layers\.[1-5]\.\d+"

FLAT_EFFICIENTNET = Layout(
    (*LUKEMELAS_EFFICIENTNET, *BARE),
    mark=r"_blocks\.",
    model=_OUR_BLOCK,
    part=PART,
    dropped=(r"_fc\.", r"_blocks\.\d+\._se_"),
)


class BackboneKeyMap(KeyMap):
    """Names of ImageNet weights; the model is a backbone under ``backbone``, or has one there.

    The scale of EfficientNet's norm layers is folded as in-place ABN does it: the published
    trainings of EfficientPS loaded ImageNet's plain batch norms into in-place ABN.
    """

    layouts: tuple[Layout, ...] = (
        Layout(
            (*DETECTRON2_DEEP_RESNET, *BARE),
            mark=r"stem\.conv1\.",
            model=_DEEP_STEM,
            part=PART,
            dropped=(r"stem\.fc\.",),
        ),
        Layout(
            (*TIMM_DEEP_RESNET, *BARE),
            mark=r"conv1\.0\.",
            model=_DEEP_STEM,
            part=PART,
            dropped=(r"fc\.",),
        ),
        Layout(
            (*DETECTRON2_RESNET, *BARE),
            mark=r"stem\.conv1\.",
            model=_IS_RESNET,
            part=PART,
            dropped=(r"stem\.fc\.",),
        ),
        Layout(  # timm
            (*TIMM_XCEPTION, *BARE),
            mark=r"blocks\.0\.stack\.",
            model=r"backbone\.block1\.",
            part=PART,
            dropped=(r"head\.fc\.",),
        ),
        Layout(  # timm
            (*TIMM_EFFICIENTNET, *BARE),
            mark=r"conv_stem\.",
            model=_OUR_BLOCK,
            part=PART,
            dropped=(r"classifier\.", r"blocks\.\d+\.\d+\.se\."),
        ),
        FLAT_EFFICIENTNET,
        Layout(  # mmpretrain
            mark=r"backbone\.",
            part=PART,
            dropped=(r"head\.", r"neck\.", r"backbone\.layers\..*\.se\."),
        ),
        Layout(  # ResNet: torchvision, timm; Xception: SegmenTron; HRNet: its authors, timm
            BARE,
            part=PART,
            dropped=(
                r"fc\.",
                r"(incre_modules|downsamp_modules|final_layer|classifier)\.",
            ),
        ),
    )

    @cached_property
    def blocks(self) -> dict[str, tuple[int, int, int]]:
        """Published stage, place in it, and place in the whole row of each EfficientNet block.

        Our layers go by stride; in those of two stages, the second begins with other kernels.
        """
        end = ".depthwise_conv.conv.weight"
        rows = [n for n in self.shapes if re.match(_OUR_BLOCK, n) and n.endswith(end)]
        found: dict[str, tuple[int, int, int]] = {}
        stage, number, before = -1, 0, None
        for row, name in enumerate(rows):
            kind = (name.split(".")[2], self.shapes[name][-1])
            stage, number = (stage, number + 1) if kind == before else (stage + 1, 0)
            found[name.removesuffix(end)], before = (stage, number, row), kind
        return found

    def name(self, ours: str, layout: Layout) -> str:
        """Translate a name; the blocks of EfficientNet have numbers of their own."""
        block = re.match(_OUR_BLOCK, ours)
        if block and block[0] in self.blocks:
            stage, number, row = self.blocks[block[0]]
            flat = layout is FLAT_EFFICIENTNET
            place = f"_blocks.{row}" if flat else f"blocks.{stage}.{number}"
            if layout.rules:
                ours = f"backbone.{place}{ours.removeprefix(block[0])}"
        return super().name(ours, layout)

    def folds(self, ours: str) -> bool:
        """Tell whether a tensor is the scale of a norm layer that stands for in-place ABN."""
        return bool(self.blocks) and re.match(r"backbone\..*\.bn\.weight$", ours) is not None

    def arrange(self, ours: str, value: Any, layout: Layout) -> Any:
        """Fold scales."""
        if not self.folds(ours):
            return value
        return fold_abn_scale(torch.as_tensor(value), _abn_eps(ours))

    def restore(self, ours: str, value: Any, layout: Layout) -> Any:
        """Unfold scales.

        Raises:
            CheckpointMismatchError: If in-place ABN cannot express a scale.
        """
        if not self.folds(ours):
            return value
        scale = torch.as_tensor(value) - _abn_eps(ours)
        if (scale < 0).any():
            raise CheckpointMismatchError(
                f"{ours} has scales below {_abn_eps(ours)}, which in-place ABN cannot express"
            )
        return scale


def _abn_eps(ours: str) -> float:
    return BACKBONE_ABN_EPS if ours.startswith("backbone.") else ABN_EPS
