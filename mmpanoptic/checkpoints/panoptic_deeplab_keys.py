"""Published names of Panoptic-DeepLab and DeepLabV3+: those of detectron2."""

from __future__ import annotations

from .key_map import KeyMap, Layout, Rules

# Our stem is a sequence of convolution, norm, ReLU; Xception and HRNet keep their published names.
RESNET: Rules = (
    (
        r"^backbone\.stem\.(\d)\.",
        lambda m: f"backbone.stem.conv{int(m[1]) // 3 + 1}." + "norm." * (int(m[1]) % 3),
    ),
    (r"^backbone\.layer(\d)\.", lambda m: f"backbone.res{int(m[1]) + 1}."),
    (r"^(backbone\.res\d\.\d+)\.bn(\d)\.", r"\1.conv\2.norm."),
    (r"^(backbone\.res\d\.\d+)\.downsample\.0\.", r"\1.shortcut."),
    (r"^(backbone\.res\d\.\d+)\.downsample\.1\.", r"\1.shortcut.norm."),
)
# The last level of a decoder is called res5, level i of the finer ones res{i + 2}.
_HEAD = r"^((?:sem_seg|ins_embed|AFF_EMBED)_head\..*)\."
HEADS: Rules = (
    (r"^semantic_head\.", "sem_seg_head."),
    (r"\.decoder\.projects\.(\d+)\.", lambda m: f".decoder.res{int(m[1]) + 2}.project_conv."),
    (r"\.decoder\.fuses\.(\d+)\.", lambda m: f".decoder.res{int(m[1]) + 2}.fuse_conv."),
    (r"\.decoder\.aspp\.image_pool\.", ".decoder.res5.project_conv.convs.4.1."),
    (r"\.decoder\.aspp\.", ".decoder.res5.project_conv."),
    (_HEAD + r"depthwise_conv\.", r"\1.depthwise."),
    (_HEAD + r"pointwise_conv\.", r"\1.pointwise."),
    (_HEAD + r"conv\.(weight|bias)$", r"\1.\2"),
    (_HEAD + r"bn\.", r"\1.norm."),
)
CLASSIFIERS = (
    r"(stem\.)?fc\.",  # ResNet, Xception
    r"(incre_modules|downsamp_modules|final_layer|classifier)\.",  # HRNet
)
"""Patterns of the names in ImageNet checkpoints that the backbones have no place for."""

_IS_RESNET = r"backbone\.layer4\."
_BACKBONE = r"backbone\."


def layouts(instance_head: Rules, dropped: tuple[str, ...] = ()) -> tuple[Layout, ...]:
    """List the namings of whole models and of ImageNet backbones.

    Args:
        instance_head (Rules): Names of the instance head.
        dropped (tuple[str, ...]): Patterns of published names without a place.

    Returns:
        tuple[Layout, ...]: For ResNet and other backbones each.
    """
    heads, bare = (*instance_head, *HEADS), ((r"^backbone\.", ""),)
    return (
        Layout((*RESNET, *heads), mark=_BACKBONE, model=_IS_RESNET, dropped=dropped),
        Layout(heads, mark=_BACKBONE, dropped=dropped),
        Layout((*RESNET, *bare), model=_IS_RESNET, part=_BACKBONE, dropped=CLASSIFIERS),
        Layout(bare, part=_BACKBONE, dropped=CLASSIFIERS),
    )


class PanopticDeepLabKeyMap(KeyMap):
    """Names of Panoptic-DeepLab, DeepLabV3+ and of the ImageNet weights that they start from."""

    layouts = layouts(((r"^instance_head\.", "ins_embed_head."),))
    class_bound = r"semantic_head\.predictor\."
