"""Published names of Panoptic-DeepLab and DeepLabV3+: those of detectron2."""

from __future__ import annotations

from .backbone_keys import DETECTRON2_DEEP_RESNET
from .key_map import KeyMap, Layout, Rules

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


def layouts(instance_head: Rules, dropped: tuple[str, ...] = ()) -> tuple[Layout, ...]:
    """List the namings of models with ResNet, and with Xception or HRNet, which keep their names.

    Args:
        instance_head (Rules): Names of the instance head.
        dropped (tuple[str, ...]): Patterns of published names without a place.

    Returns:
        tuple[Layout, ...]: Of these two.
    """
    heads = (*instance_head, *HEADS)
    resnet = Layout((*DETECTRON2_DEEP_RESNET, *heads), model=r"backbone\.layer4\.", dropped=dropped)
    return resnet, Layout(heads, dropped=dropped)


class PanopticDeepLabKeyMap(KeyMap):
    """Names of Panoptic-DeepLab and DeepLabV3+."""

    layouts = layouts(((r"^instance_head\.", "ins_embed_head."),))
    class_bound = r"semantic_head\.predictor\."
