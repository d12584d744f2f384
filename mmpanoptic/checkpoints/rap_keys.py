"""Names of the released Panoptic FPN, RAP and OCFusion checkpoints, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .detectron_keys import (
    BOX_CLASSES,
    BOX_DELTAS,
    MASK_CLASSES,
    MASK_RCNN_RULES,
    background_first,
    background_last,
)
from .panoptic_deeplab_keys import CheckpointMismatchError, check_names, check_shapes

DROPPED = (r"rpn\.anchor_generator\.cell_anchors\.",)
"""Patterns of published names that have no place in our models: the config says the same."""

CLASS_LAYERS = (BOX_CLASSES, BOX_DELTAS, MASK_CLASSES, "semantic_head.conv_logits.")
"""Beginnings of our names whose shapes depend on the classes of the dataset."""

GROUPS = (
    r"backbone\.body\.(?!.*\.conv2\.offset\.)",
    r"backbone\.fpn\.",
    r"rpn\.",
    r"roi_heads\.box\.",
    r"roi_heads\.mask\.",
)
"""Patterns of published names of which initial weights have all or none."""

_COUNTER = ".num_batches_tracked"
_RELATION = "roi_heads.relation.feature_extractor."
_EXTRA_RULES: tuple[tuple[str, Any], ...] = (
    (r"^roi_head\.relation_head\.predictor\.", "roi_heads.relation.predictor.relation_val."),
    (r"^roi_head\.relation_head\.fc\.", _RELATION + "relation_fc1."),
    (r"^roi_head\.occlusion_head\.fc\.", _RELATION + "relation_oc_fc1."),
    (r"^roi_head\.occlusion_head\.predictor\.", _RELATION + "relation_oc_fc2."),
    (
        r"^roi_head\.(relation|occlusion)_head\.convs\.(\d)\.",
        lambda m: f"{_RELATION}relation_{'oc_' * (m[1] == 'occlusion')}fcn{int(m[2]) + 1}.",
    ),
)
_BODY_RULES: tuple[tuple[str, str], ...] = (
    (r"^backbone\.(conv1|bn1)\.", r"backbone.body.stem.\1."),
    (r"^backbone\.(layer\d\.\d+\.conv2)\.conv_offset\.", r"backbone.body.\1.offset."),
    (r"^backbone\.(layer\d)\.", r"backbone.body.\1."),
)


class RapKeyMap:
    """Convert state dicts between the released naming and that of one of our models.

    Published classes start with the background, ours end with it or have none.

    Args:
        model (nn.Module): A ``TwoStagePanopticSegmentor`` built from the config of the variant.
    """

    def __init__(self, model: nn.Module) -> None:
        state = model.state_dict()
        self.shapes = {
            name: tuple(value.shape)
            for name, value in state.items()
            if not name.endswith(_COUNTER)  # frozen norm layers count no batches
        }
        self.deformable = {
            name.rsplit(".", 2)[0] for name in self.shapes if ".conv_offset." in name
        }
        branches = [re.match(r"semantic_head\.branches\.(\d+)\.", name) for name in state]
        self.coarsest = max((int(match[1]) for match in branches if match), default=0)
        self.published = {name: self._published_name(name) for name in self.shapes}

    def to_ours(
        self, state: Mapping[str, Any], drop: Sequence[str] = (), new_classes: bool = False
    ) -> dict[str, Tensor]:
        """Rename and rearrange the tensors of a released checkpoint.

        Args:
            state (Mapping): Tensors by published name, without ``module.``.
            drop (Sequence[str]): Regular expressions of further names to drop, matched at the
                beginning of a name.
            new_classes (bool): Leave out what depends on the classes, since the model has others
                than the checkpoint.

        Returns:
            dict[str, Tensor]: The values under our names.

        Raises:
            CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
        """
        wanted = self.published
        values = _without(state, [*DROPPED, *drop])
        if new_classes:
            left_out = {p for o, p in wanted.items() if o.startswith(CLASS_LAYERS)}
            wanted = {o: p for o, p in wanted.items() if p not in left_out}
            values = {name: value for name, value in values.items() if name not in left_out}
        return self._place(values, wanted)

    def initial_to_ours(
        self, state: Mapping[str, Any], drop: Sequence[str] = (), new_classes: bool = False
    ) -> dict[str, Tensor]:
        """Rename and rearrange weights that a training starts from.

        The backbone must be complete; FPN, RPN, box head and mask head are either complete or
        absent; semantic head, further heads and the offsets of deformable convolutions start
        anew.

        Args:
            state (Mapping): Tensors by published name.
            drop (Sequence[str]): As in :meth:`to_ours`.
            new_classes (bool): As in :meth:`to_ours`.

        Returns:
            dict[str, Tensor]: The values under our names.

        Raises:
            CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
        """
        values = _without(state, [*DROPPED, *drop])
        values = {self._deformable_name(name): value for name, value in values.items()}
        if new_classes:
            left_out = {p for o, p in self.published.items() if o.startswith(CLASS_LAYERS)}
            values = {name: value for name, value in values.items() if name not in left_out}
        present = [GROUPS[0], *(g for g in GROUPS[1:] if any(re.match(g, n) for n in values))]
        wanted = {
            ours: theirs
            for ours, theirs in self.published.items()
            if any(re.match(group, theirs) for group in present)
            and not (new_classes and ours.startswith(CLASS_LAYERS))
        }
        return self._place(values, wanted)

    def to_published(self, state: Mapping[str, Any]) -> dict[str, Tensor]:
        """Rename and rearrange the tensors of one of our state dicts.

        Args:
            state (Mapping): Tensors by our name, complete.

        Returns:
            dict[str, Tensor]: The values under the published names; deltas and masks of the
            background, which nobody reads, are 0.

        Raises:
            CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
        """
        values = {name: value for name, value in state.items() if not name.endswith(_COUNTER)}
        check_names(values, self.published)
        check_shapes(values, self.shapes)
        return {
            theirs: background_first(ours, values[ours]) for ours, theirs in self.published.items()
        }

    def _place(self, values: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, Tensor]:
        check_names(values, wanted.values())
        ours = {name: background_last(name, values[theirs]) for name, theirs in wanted.items()}
        check_shapes(ours, self.shapes)
        return ours

    def _published_name(self, name: str) -> str:
        owner = name.rsplit(".", 1)[0]
        if owner in self.deformable:  # the convolution proper beside its offsets
            return f"backbone.body.{owner.removeprefix('backbone.')}.conv.weight"
        if name.startswith("neck."):
            return _neck_name(name)
        if name.startswith("semantic_head."):
            return self._semantic_name(name)
        published = re.sub(
            r"^roi_head\.mask_head\.convs\.(\d)\.conv\.",
            lambda m: f"roi_heads.mask.feature_extractor.mask_fcn{int(m[1]) + 1}.",
            name,
        )
        for pattern, replacement in (*MASK_RCNN_RULES, *_EXTRA_RULES, *_BODY_RULES):
            published = re.sub(pattern, replacement, published)
        return published

    def _semantic_name(self, name: str) -> str:
        match = re.fullmatch(r"semantic_head\.branches\.(\d+)\.(\d+)\.(\d)\.(\w+)", name)
        if match is None:
            return name.replace("conv_logits", "semantic_final.0")
        level, conv, layer = map(int, match.groups()[:3])
        sequence = self.coarsest - level
        return f"semantic_head.semantic_seq{sequence}.{4 * conv + layer}.{match[4]}"

    def source_name(self, published: str) -> str:
        """Tell the name that a published tensor has before convolutions become deformable."""
        owner = published.removesuffix(".conv.weight")
        ours = owner.replace("backbone.body.", "backbone.")
        return f"{owner}.weight" if ours in self.deformable else published

    def _deformable_name(self, name: str) -> str:
        owner = name.removesuffix(".weight")
        ours = owner.replace("backbone.body.", "backbone.")
        return f"{owner}.conv.weight" if ours in self.deformable else name


def _neck_name(name: str) -> str:
    match = re.fullmatch(r"neck\.(lateral|fpn)_convs\.(\d)\.conv\.(\w+)", name)
    if match is None:
        raise CheckpointMismatchError(
            f"{name} has no published name: the neck must be mmdet.FPN without norm layers"
        )
    kind = "inner" if match[1] == "lateral" else "layer"
    return f"backbone.fpn.fpn_{kind}{int(match[2]) + 1}.{match[3]}"


def _without(state: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    return {n: v for n, v in state.items() if not any(re.match(p, n) for p in patterns)}
