"""The fusion head of guests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def fill_fusion(
    fusion_head: Mapping[str, Any] | None, num_classes: int, thing_labels: Sequence[int]
) -> dict[str, Any]:
    """Complete the config of a fusion head by what its model knows.

    Args:
        fusion_head (Mapping | None): ``MaskSetFusionHead`` unless ``type`` says otherwise.
        num_classes (int): Number of classes.
        thing_labels (Sequence[int]): Contiguous labels of the things.

    Returns:
        dict: The config.
    """
    fusion = {"type": "MaskSetFusionHead", **(fusion_head or {})}
    if fusion["type"] != "MaskSetFusionHead":
        return fusion  # another one has other arguments, and is refused for what it needs
    return {"num_classes": num_classes, "thing_labels": tuple(thing_labels), **fusion}
