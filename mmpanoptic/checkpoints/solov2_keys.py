"""Names of published SOLOv2 checkpoints and ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from .panoptic_deeplab_keys import check_names, check_shapes, place_tensors

_PREDICTOR = "instance_head.conv_cls."
OFFICIAL = (
    ("instance_head.cls_convs.", "bbox_head.cate_convs."),
    ("instance_head.kernel_convs.", "bbox_head.kernel_convs."),
    ("instance_head.conv_cls.", "bbox_head.solo_cate."),
    ("instance_head.conv_kernel.", "bbox_head.solo_kernel."),
    ("instance_head.mask_feature_head.conv_pred.", "mask_feat_head.conv_pred.0."),
    ("instance_head.mask_feature_head.", "mask_feat_head."),
)
"""Beginnings of our names and of those of WXinlong/SOLO; backbone and neck have the same names."""
MMDET = (("instance_head.", "mask_head."),)
"""Beginnings of our names and of those of mmdetection."""


def published_name(name: str, layout: Sequence[tuple[str, str]]) -> str:
    """Translate one of our names by the first beginning that fits."""
    for ours, theirs in layout:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


class SOLOv2KeyMap:
    """Convert state dicts between published namings and that of one of our models.

    Checkpoints of WXinlong/SOLO and of mmdetection are told apart by their names.

    Args:
        model (nn.Module): A ``PanopticSegmentor`` built from the config of the variant.

    Attributes:
        published (dict[str, str]): Published name by our name, in the layout that was met last;
            that of WXinlong/SOLO at first.
    """

    def __init__(self, model: nn.Module) -> None:
        state = model.state_dict()
        self.shapes = {name: tuple(value.shape) for name, value in state.items()}
        self.published = self._names(OFFICIAL)

    def to_ours(
        self, state: Mapping[str, Any], drop: Sequence[str] = (), new_classes: bool = False
    ) -> dict[str, Any]:
        """Rename the tensors of a published checkpoint.

        Args:
            state (Mapping): Tensors or arrays by published name. Batch counters may be missing
                and become 0.
            drop (Sequence[str]): Regular expressions of names to drop, matched at the beginning.
            new_classes (bool): Leave the category predictor out, since the model has other
                classes than the checkpoint.

        Returns:
            dict: The values under our names.

        Raises:
            CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
        """
        self.published = self._names(MMDET if _is_mmdet(state) else OFFICIAL)
        values = {n: v for n, v in state.items() if not any(re.match(d, n) for d in drop)}
        wanted = dict(self.published)
        if new_classes:
            left_out = {wanted.pop(name) for name in self.published if name.startswith(_PREDICTOR)}
            values = {name: value for name, value in values.items() if name not in left_out}
        return place_tensors(values, wanted, self.shapes)

    def to_published(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Rename the tensors of one of our state dicts.

        Args:
            state (Mapping): Tensors or arrays by our name, complete.

        Returns:
            dict: The values under the names of WXinlong/SOLO, or of the checkpoint that was
            converted before.

        Raises:
            CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
        """
        check_names(state, self.published)
        check_shapes(state, self.shapes)
        return {theirs: state[ours] for ours, theirs in self.published.items()}

    def _names(self, layout: Sequence[tuple[str, str]]) -> dict[str, str]:
        return {name: published_name(name, layout) for name in self.shapes}


def _is_mmdet(names: Iterable[str]) -> bool:
    return any(name.startswith("mask_head.") for name in names)
