"""Published names of Auto-Panoptic and DetNAS."""

from __future__ import annotations

import re
import string
from typing import Any

from torch import nn

from mmpanoptic.models.layers import ChoiceModule

from .detectron_keys import CLASS_LAYERS, MASK_RCNN, background_first, background_last
from .key_map import KeyMap, Layout, Rules

_LAYER = r"^((?:seg_branch\.subnet0_|roi_heads\.mask\.feature_extractor\.\w+_fcn_)\d+\."
RULES: Rules = (
    *MASK_RCNN,
    (r"^semantic_head\.score\.", "seg_branch.score."),
    (r"^semantic_head\.layers\.(\d+)\.", r"seg_branch.subnet0_\1."),
    (
        r"^roi_head\.mask_head\.convs\.(\d+)\.",
        lambda m: f"roi_heads.mask.feature_extractor.AutoPanoptic_mask_fcn_{int(m[1]) + 1}.",
    ),
    (_LAYER + r"(?:.*\.)?)norm\.", r"\g<1>1.groupnorm."),
    (_LAYER + r"(?:.*\.)?)conv\.(depthwise|pointwise)\.", r"\g<1>0.\2."),
    (_LAYER + r"(?:\d\.)?)conv\.", r"\g<1>0.conv."),
    (r"^b2f\.(\d)\.", r"seg_branch.b2f.inter_layer\1."),
    (r"^f2b\.(\d)\.", r"f2b.inter_layer\1."),
    (r"^neck\.lateral_convs\.(\d)\.(?=conv|gn)", lambda m: f"fpn.fpn_inner{int(m[1]) + 2}."),
    (r"^neck\.fpn_convs\.(\d)\.(?=conv|gn)", lambda m: f"fpn.fpn_layer{int(m[1]) + 2}."),
    (r"^(fpn\.\w+\.)conv\.", r"\g<1>0."),
    (r"^(fpn\.\w+\.)gn\.", r"\g<1>1."),
    (r"^backbone\.stem\.", "backbone.first_conv.conv."),
    (r"^backbone\.stem_bn\.", "backbone.first_conv.bn."),
    (r"^head\.(conv|bn)\.", r"last_conv.\1."),
    (r"^head\.fc\.", "fc.fc."),
)
BLOCK_LAYERS = {
    "depthwise": "interstellar{}_s",
    "bn_depth": "interstellar{}_s_bn",
    "pointwise": "interstellar{}",
    "bn_point": "bn{}",
}
"""Layers of a searched block; the gap takes the block's stage and letter, operation and part."""

PANOPTIC = Layout(
    RULES,
    mark=r"(backbone|fpn|rpn|roi_heads|seg_branch)\.",
    model=r"rpn_head\.",
    dropped=(
        r"(backbone\.)?fpn\.fpn_(inner|layer)1\.",  # built for an input that never comes
        r"rpn\.anchor_generator\.cell_anchors\.",  # buffers; the config says the same
    ),
)
_IMAGENET_ONLY = (r"last_conv\.", r"fc\.")
IMAGENET_BACKBONE = Layout(RULES, model=r"rpn_head\.", part=r"backbone\.", dropped=_IMAGENET_ONLY)
CLASSIFIER = Layout(RULES)

_BLOCK = re.compile(r"backbone\.blocks\.(\d+)\.(?:(\d+)\.)?(?:branch\.(\d)|shortcut)\.(\w+)\.(\w+)")


class AutoPanopticKeyMap(KeyMap):
    """Names of Auto-Panoptic's panoptic models and of its and DetNAS's ImageNet classifiers.

    Each was released as supernet and as searched network. Names of panoptic models keep the
    backbone under ``backbone.body`` if the network is fixed and under ``backbone`` if it is a
    supernet; those of classifiers have no prefix. Published classes start with the background,
    ours end with it or have none.

    Raises:
        ValueError: If the model's backbone is no ``ShuffleNetV2Plus``.
    """

    layouts: tuple[Layout, ...] = (PANOPTIC, IMAGENET_BACKBONE, CLASSIFIER)
    class_bound = rf"{CLASS_LAYERS}|semantic_head\.score\.|head\.fc\."
    nameless = ((r"(backbone\.)?neck\.", "the neck must be mmdet.FPN with GN"),)

    def __init__(self, model: nn.Module) -> None:
        backbone: Any = model.backbone
        self.backbone = backbone
        if not hasattr(backbone, "blocks") or not hasattr(backbone, "ops"):
            raise ValueError(
                f"released Auto-Panoptic weights need a ShuffleNetV2Plus, the config's backbone is "
                f"a {type(backbone).__name__}; choose one of configs/auto_panoptic"
            )
        self.is_supernet = isinstance(backbone.blocks[0], ChoiceModule)
        self.block_names = [
            f"{stage}{letter}"
            for stage, depth in enumerate(backbone.depths, 1)
            for letter in string.ascii_lowercase[:depth]
        ]
        super().__init__(model)

    def name(self, ours: str, layout: Layout) -> str:
        """Translate a name; blocks are named by the operations that were searched."""
        block = _BLOCK.fullmatch(ours)
        theirs = self._block_name(*block.groups()) if block else super().name(ours, layout)
        if layout is not PANOPTIC:
            return theirs.removeprefix("backbone.")
        if self.is_supernet or not theirs.startswith(("backbone.", "fpn.")):
            return theirs
        return theirs.replace("backbone.", "backbone.body.").replace("fpn.", "backbone.fpn.", 1)

    def arrange(self, ours: str, value: Any, layout: Layout) -> Any:
        """Move the background."""
        return background_last(ours, value)

    def restore(self, ours: str, value: Any, layout: Layout) -> Any:
        """Move the background back."""
        return background_first(ours, value)

    def _block_name(self, block: str, op: str | None, part: str | None, *rest: str) -> str:
        layer, leaf = rest
        folder = f"backbone.features.{block}." + (f"{op}." if op else "")
        core = self.block_names[int(block)]
        if part is None:
            return f"{folder}proj_conv.{BLOCK_LAYERS[layer].format(core + '_proj')}.{leaf}"
        chosen = self.backbone.ops[int(op) if op else self.backbone.choices[int(block)]]
        core = f"{core}_{chosen}_branch2{string.ascii_lowercase[int(part)]}"
        return f"{folder}conv.{part}.{BLOCK_LAYERS[layer].format(core)}.{leaf}"


class SearchedBackboneKeyMap(AutoPanopticKeyMap):
    """Names of the same classifiers, for the backbone of any model."""

    layouts = (Layout(RULES, part=r"backbone\.", dropped=_IMAGENET_ONLY),)
