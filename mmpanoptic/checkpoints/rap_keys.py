"""Published names of Panoptic FPN, RAP and OCFusion: those of maskrcnn-benchmark."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from .detectron_keys import (
    CLASS_LAYERS,
    MASK_RCNN,
    background_first,
    background_last,
    is_detectron,
    name_blobs,
)
from .key_map import KeyMap, Layout, Rules

_RELATION = "roi_heads.relation.feature_extractor."
RULES: Rules = (
    (r"^backbone\.(conv1|bn1)\.", r"backbone.body.stem.\1."),
    (r"^backbone\.(layer\d\.\d+\.conv2)\.conv_offset\.", r"backbone.body.\1.offset."),
    (r"^backbone\.(layer\d)\.", r"backbone.body.\1."),
    (
        r"^neck\.lateral_convs\.(\d)\.conv\.",
        lambda m: f"backbone.fpn.fpn_inner{int(m[1]) + 1}.",
    ),
    (r"^neck\.fpn_convs\.(\d)\.conv\.", lambda m: f"backbone.fpn.fpn_layer{int(m[1]) + 1}."),
    (
        r"^roi_head\.mask_head\.convs\.(\d)\.conv\.",
        lambda m: f"roi_heads.mask.feature_extractor.mask_fcn{int(m[1]) + 1}.",
    ),
    *MASK_RCNN,
    (r"^semantic_head\.conv_logits\.", "semantic_head.semantic_final.0."),
    (r"^roi_head\.relation_head\.predictor\.", "roi_heads.relation.predictor.relation_val."),
    (r"^roi_head\.relation_head\.fc\.", _RELATION + "relation_fc1."),
    (r"^roi_head\.occlusion_head\.fc\.", _RELATION + "relation_oc_fc1."),
    (r"^roi_head\.occlusion_head\.predictor\.", _RELATION + "relation_oc_fc2."),
    (
        r"^roi_head\.(relation|occlusion)_head\.convs\.(\d)\.",
        lambda m: f"{_RELATION}relation_{'oc_' * (m[1] == 'occlusion')}fcn{int(m[2]) + 1}.",
    ),
)


class RapKeyMap(KeyMap):
    """Names of Panoptic FPN, RAP and OCFusion, and of what their trainings start from.

    Published classes start with the background, ours end with it or have none. A training starts
    from an ImageNet backbone or a Mask R-CNN, as maskrcnn-benchmark or Detectron stores them; its
    plain convolutions start deformable ones, whose offsets start anew.
    """

    layouts = (Layout(RULES, dropped=(r"rpn\.anchor_generator\.cell_anchors\.",)),)
    class_bound = rf"{CLASS_LAYERS}|semantic_head\.conv_logits\."
    groups = (
        r"backbone\.(?!.*\.conv_offset\.)",
        r"neck\.",
        r"rpn_head\.",
        r"roi_head\.bbox_head\.",
        r"roi_head\.mask_head\.",
        r"semantic_head\.",
        r"roi_head\.relation_head\.",
        r"roi_head\.occlusion_head\.",
    )
    nameless = ((r"neck\.", "the neck must be mmdet.FPN without norm layers"),)
    counts_batches = False

    def __init__(self, model: nn.Module) -> None:
        names = list(model.state_dict())
        self.deformable = {name.rsplit(".", 2)[0] for name in names if ".conv_offset." in name}
        levels = [re.match(r"semantic_head\.branches\.(\d+)\.", name) for name in names]
        self.coarsest = max((int(match[1]) for match in levels if match), default=0)
        super().__init__(model)

    def read(self, state: Mapping[str, Any], initial: bool) -> tuple[dict[str, Any], list[str]]:
        """Name Detectron's blobs; let plain convolutions start deformable ones."""
        if not initial:
            return super().read(state, initial)
        named, dropped = name_blobs(state) if is_detectron(state) else (state, [])
        return {self._deformable_name(name): value for name, value in named.items()}, dropped

    def name(self, ours: str, layout: Layout) -> str:
        """Translate a name; published semantic branches are numbered from the coarsest level."""
        owner = ours.rsplit(".", 1)[0]
        if owner in self.deformable:  # the convolution proper beside its offsets
            return f"backbone.body.{owner.removeprefix('backbone.')}.conv.weight"
        branch = re.fullmatch(r"semantic_head\.branches\.(\d+)\.(\d+)\.(\d)\.(\w+)", ours)
        if branch is None:
            return super().name(ours, layout)
        level, conv, layer = map(int, branch.groups()[:3])
        return f"semantic_head.semantic_seq{self.coarsest - level}.{4 * conv + layer}.{branch[4]}"

    def arrange(self, ours: str, value: Any, layout: Layout) -> Any:
        """Move the background."""
        return background_last(ours, value)

    def restore(self, ours: str, value: Any, layout: Layout) -> Any:
        """Move the background back."""
        return background_first(ours, value)

    def _deformable_name(self, name: str) -> str:
        owner = name.removesuffix(".weight")
        ours = owner.replace("backbone.body.", "backbone.")
        return f"{owner}.conv.weight" if ours in self.deformable else name
