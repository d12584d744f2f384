"""Names of the released Auto-Panoptic and DetNAS checkpoints, and ours."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmpanoptic.models.layers import ChoiceModule

from .detectron_keys import BOX_CLASSES, BOX_DELTAS, MASK_CLASSES, MASK_RCNN_RULES, background_last
from .panoptic_deeplab_keys import place_tensors

DROPPED = (
    r"(backbone\.)?fpn\.fpn_(inner|layer)1\.",  # built for an input that never comes
    r"rpn\.anchor_generator\.cell_anchors\.",  # buffers; the config says the same
)
"""Patterns of the names in detection checkpoints that have no place in our models."""

CLASSIFIER = (r"last_conv\.", r"fc\.")
"""Patterns of the names in ImageNet checkpoints that the backbone has no place for."""

CLASS_LAYERS = (
    BOX_CLASSES,
    BOX_DELTAS,
    MASK_CLASSES,
    "semantic_head.score.",
    "head.fc.",
)
"""Beginnings of our names whose shapes depend on the classes of the dataset."""

_BLOCK = re.compile(r"backbone\.blocks\.(\d+)\.(?:(\d+)\.)?(?:branch\.(\d)|shortcut)\.(\w+)\.(\w+)")
_HEAD_LAYER = re.compile(r"(roi_head\.mask_head\.convs|semantic_head\.layers)\.(\d+)\.(.+)")
_RULES: tuple[tuple[str, str], ...] = (
    *MASK_RCNN_RULES,
    (r"^semantic_head\.score\.", "seg_branch.score."),
    (r"^b2f\.(\d)\.", r"seg_branch.b2f.inter_layer\1."),
    (r"^f2b\.(\d)\.", r"f2b.inter_layer\1."),
    (r"^head\.conv\.", "last_conv.conv."),
    (r"^head\.bn\.", "last_conv.bn."),
    (r"^head\.fc\.", "fc.fc."),
)
_LAYERS = {
    "depthwise": "interstellar{}_s",
    "bn_depth": "interstellar{}_s_bn",
    "pointwise": "interstellar{}",
    "bn_point": "bn{}",
}


class AutoPanopticKeyMap:
    """Convert released state dicts to the naming of one of our models.

    Four layouts were released: ImageNet classifiers and panoptic models, each as supernet and as
    searched network. Names of panoptic models keep the backbone under ``backbone.body`` if the
    network is fixed and under ``backbone`` if it is a supernet; those of classifiers have no
    prefix. Published classes start with the background, ours end with it or have none.

    Args:
        model (nn.Module): An ``AutoPanoptic`` or an ``ImageClassifier`` with ``ShuffleNetV2Plus``,
            built from the config of the checkpoint's architecture.

    Raises:
        ValueError: If the model has another backbone.
    """

    def __init__(self, model: nn.Module) -> None:
        state = model.state_dict()
        self.shapes = {name: tuple(value.shape) for name, value in state.items()}
        self.backbone: Any = model.backbone
        if not hasattr(self.backbone, "blocks") or not hasattr(self.backbone, "ops"):
            raise ValueError(
                f"released Auto-Panoptic weights need a ShuffleNetV2Plus, the config's backbone is "
                f"a {type(self.backbone).__name__}; choose one of configs/auto_panoptic"
            )
        self.is_supernet = isinstance(self.backbone.blocks[0], ChoiceModule)
        self.is_classifier = not hasattr(model, "rpn_head")
        self.block_names = list(_block_names(self.backbone.depths))
        self.published = {name: self._published_name(name, self.is_classifier) for name in state}

    def to_ours(
        self,
        state: Mapping[str, Any],
        drop: Sequence[str] = (),
        new_classes: bool = False,
    ) -> dict[str, Tensor]:
        """Rename and rearrange the tensors of a released checkpoint.

        A checkpoint of an ImageNet classifier gives a panoptic model its backbone.

        Args:
            state (Mapping): Tensors by published name, without ``module.``; batch counters may be
                missing and become 0.
            drop (Sequence[str]): Regular expressions of further names to drop, matched at the
                beginning of a name.
            new_classes (bool): Leave out what depends on the classes, since the model has others
                than the checkpoint.

        Returns:
            dict[str, Tensor]: The values under our names.

        Raises:
            CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
        """
        wanted = self.wanted(state, new_classes)
        dropped = self.dropped(state, drop, new_classes)
        values = {name: value for name, value in state.items() if name not in dropped}
        return place_tensors(values, wanted, self.shapes, background_last)

    def wanted(self, state: Mapping[str, Any], new_classes: bool = False) -> dict[str, str]:
        """Tell which tensors a checkpoint must hold: published name by ours."""
        wanted = self.published
        if self._gives_backbone_only(state):
            wanted = {
                name: self._published_name(name, is_classifier=True)
                for name in self.published
                if name.startswith("backbone.")
            }
        if new_classes:
            wanted = {o: p for o, p in wanted.items() if not o.startswith(CLASS_LAYERS)}
        return wanted

    def dropped(
        self, state: Mapping[str, Any], drop: Sequence[str] = (), new_classes: bool = False
    ) -> set[str]:
        """Tell which tensors of a checkpoint have no place in the model; see :meth:`to_ours`."""
        patterns = [*DROPPED, *drop, *(CLASSIFIER if self._gives_backbone_only(state) else ())]
        left_out = set(self.published.values()) - set(self.wanted(state, new_classes).values())
        return {
            name
            for name in state
            if any(re.match(pattern, name) for pattern in patterns)
            or (new_classes and name in left_out)
        }

    def _gives_backbone_only(self, state: Mapping[str, Any]) -> bool:
        return not self.is_classifier and any(name.startswith("first_conv.") for name in state)

    def _published_name(self, name: str, is_classifier: bool) -> str:
        if name.startswith("backbone."):
            body = "" if is_classifier else "backbone." if self.is_supernet else "backbone.body."
            return body + self._backbone_name(name)
        if name.startswith("neck."):
            return ("fpn." if self.is_supernet else "backbone.fpn.") + _neck_name(name)
        layer = _HEAD_LAYER.fullmatch(name)
        if layer:
            return self._head_layer_name(*layer.groups())
        for pattern, replacement in _RULES:
            name = re.sub(pattern, replacement, name)
        return name

    def _backbone_name(self, name: str) -> str:
        match = _BLOCK.fullmatch(name)
        if match is None:
            stem = name.removeprefix("backbone.")
            return re.sub("^stem_bn", "first_conv.bn", re.sub(r"^stem\.", "first_conv.conv.", stem))
        block, op, part, layer, leaf = match.groups()
        folder = f"features.{block}." + (f"{op}." if op else "")
        core = self.block_names[int(block)]
        if part is None:
            return f"{folder}proj_conv.{_LAYERS[layer].format(core + '_proj')}.{leaf}"
        chosen = self.backbone.ops[int(op) if op else self.backbone.choices[int(block)]]
        core = f"{core}_{chosen}_branch2{string.ascii_lowercase[int(part)]}"
        return f"{folder}conv.{part}.{_LAYERS[layer].format(core)}.{leaf}"

    def _head_layer_name(self, owner: str, number: str, rest: str) -> str:
        if owner.startswith("roi_head"):
            prefix = f"roi_heads.mask.feature_extractor.AutoPanoptic_mask_fcn_{int(number) + 1}."
        else:
            prefix = f"seg_branch.subnet0_{number}."
        rest = re.sub(r"(^|\.)norm\.", r"\g<1>1.groupnorm.", rest)
        rest = re.sub(r"(^|\.)conv\.(depthwise|pointwise)\.", r"\g<1>0.\g<2>.", rest)
        return prefix + re.sub(r"^(\d\.)?conv\.", r"\g<1>0.conv.", rest)


def _block_names(depths: Sequence[int]) -> Iterator[str]:
    """Name the blocks by stage (1..) and letter."""
    for stage, depth in enumerate(depths, 1):
        for letter in string.ascii_lowercase[:depth]:
            yield f"{stage}{letter}"


def _neck_name(name: str) -> str:
    match = re.fullmatch(r"neck\.(lateral|fpn)_convs\.(\d)\.(conv|gn)\.(\w+)", name)
    if match is None:
        raise ValueError(f"{name} has no published name: the neck must be mmdet.FPN with GN")
    kind, level, layer, leaf = match.groups()
    folder = "fpn_inner" if kind == "lateral" else "fpn_layer"
    return f"{folder}{int(level) + 2}.{0 if layer == 'conv' else 1}.{leaf}"
