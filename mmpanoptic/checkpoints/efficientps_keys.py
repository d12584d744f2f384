"""Names and values of published EfficientPS and EfficientNet checkpoints in our terms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmpanoptic.models.layers.inplace_abn import ABN_EPS, BACKBONE_ABN_EPS, fold_abn_scale

from .panoptic_deeplab_keys import check_names, check_shapes

_COUNTER = "num_batches_tracked"
_STAGE_LAYER = {0: 1, 1: 2, 2: 3, 3: 4, 4: 4, 5: 5, 6: 5}
"""Layer of our backbone by published stage; two stages of one stride share a layer."""
_SECOND_HALF = {4: 3, 6: 5}
"""Stages that continue the layer of another stage, by stage."""
_FIRST_STAGE_PARTS = {
    "conv_dw": "depthwise_conv.conv",
    "bn1": "depthwise_conv.bn",
    "conv_pw": "linear_conv.conv",
    "bn2": "linear_conv.bn",
}
_PARTS = {
    "conv_pw": "expand_conv.conv",
    "bn1": "expand_conv.bn",
    "conv_dw": "depthwise_conv.conv",
    "bn2": "depthwise_conv.bn",
    "conv_pwl": "linear_conv.conv",
    "bn3": "linear_conv.bn",
}
_ENDS = {
    "conv_stem": "layers.0.conv",
    "bn1": "layers.0.bn",
    "conv_head": "layers.6.conv",
    "bn2": "layers.6.bn",
}
_FLAT_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_FLAT_PARTS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_FLAT_FIRST_STAGE_PARTS = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
UNUSED = (
    r"classifier\.",
    r"_fc\.",
    r"blocks\.\d+\.\d+\.se\.",
    r"_blocks\.\d+\._se_",
)
"""Patterns of ImageNet names without a place: classifiers and squeeze-and-excitation."""
PREDICTORS = r"(\.fc_cls|\.fc_reg|\.conv_logits)\."
"""Pattern of our names whose shape depends on the classes."""


def stage_lengths(names: Iterable[str]) -> dict[int, int]:
    """Count the blocks of each stage from names ``blocks.STAGE.BLOCK...``."""
    found: dict[int, int] = {}
    for name in names:
        match = re.search(r"(?:^|\.)blocks\.(\d+)\.(\d+)\.", name)
        if match:
            stage, block = int(match[1]), int(match[2])
            found[stage] = max(found.get(stage, 0), block + 1)
    return found


def our_backbone_name(name: str, lengths: Mapping[int, int]) -> str:
    """Translate one name of the authors' (and timm's) EfficientNet.

    Args:
        name (str): Name without ``backbone.``.
        lengths (Mapping[int, int]): From :func:`stage_lengths`.

    Returns:
        str: Our name without ``backbone.``; unknown names stay as they are.
    """
    block = re.fullmatch(r"blocks\.([0-6])\.(\d+)\.(\w+)\.(.+)", name)
    if block is None:
        part, _, leaf = name.partition(".")
        return f"{_ENDS[part]}.{leaf}" if part in _ENDS else name
    stage, number = int(block[1]), int(block[2])
    parts = _PARTS if stage else _FIRST_STAGE_PARTS
    if block[3] not in parts:
        return name
    number += lengths.get(_SECOND_HALF.get(stage, -1), 0)
    return f"layers.{_STAGE_LAYER[stage]}.{number}.{parts[block[3]]}.{block[4]}"


def unflatten_backbone(state: Mapping[str, Any], layer_lengths: Sequence[int]) -> dict[str, Any]:
    """Rename a checkpoint of ``efficientnet_pytorch``, which numbers all blocks in one list.

    Args:
        state (Mapping): Values by name.
        layer_lengths (Sequence[int]): Blocks of each of the seven stages.

    Returns:
        dict: The values under timm's names.
    """
    place = [(stage, i) for stage, length in enumerate(layer_lengths) for i in range(length)]
    renamed = {}
    for name, value in state.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", name)
        if match and int(match[1]) < len(place):
            stage, number = place[int(match[1])]
            parts = _FLAT_PARTS if stage else _FLAT_FIRST_STAGE_PARTS
            renamed[f"blocks.{stage}.{number}.{parts.get(match[2], match[2])}.{match[3]}"] = value
            continue
        part, _, leaf = name.partition(".")
        renamed[f"{_FLAT_ENDS.get(part, part)}.{leaf}"] = value
    return renamed


class EfficientPSKeyMap:
    """Convert published checkpoints to state dicts of one of our models.

    The scale of in-place ABN becomes that of a plain batch norm; the background class moves from
    the first to the last place of the box classifier and leaves the box regression and the mask
    predictor.

    Args:
        model (nn.Module): The model, or a module dict with some of its parts.

    Attributes:
        published (dict[str, str]): Source of each of our tensors in the last conversion; our own
            name where the source has none.
    """

    def __init__(self, model: nn.Module) -> None:
        self.shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        self.published: dict[str, str] = {}

    def to_ours(
        self,
        state: Mapping[str, Tensor],
        backbone_only: bool = False,
        drop: Sequence[str] = (),
        new_classes: bool = False,
    ) -> dict[str, Tensor]:
        """Convert a checkpoint, completely and strictly.

        Args:
            state (Mapping): Tensors by published name. Batch counters may be missing and become
                0.
            backbone_only (bool): The names are those of an ImageNet checkpoint of timm or
                ``efficientnet_pytorch``. Training of the published models loads the weights of
                its batch norms into in-place ABN, so their scale is folded, too; what
                :data:`UNUSED` matches is dropped.
            drop (Sequence[str]): Regular expressions of further names to drop, matched at the
                beginning of a name.
            new_classes (bool): Leave the predictors of classes out, since the model has other
                classes than the checkpoint.

        Returns:
            dict[str, Tensor]: Tensors by our name.

        Raises:
            CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
        """
        dropped = [*drop, *(UNUSED if backbone_only else ())]
        source = {n: n for n in state if not any(re.match(pattern, n) for pattern in dropped)}
        if backbone_only:
            if any(name.startswith("_blocks.") for name in source):
                source = unflatten_backbone(source, self._stage_lengths())
            source = {f"backbone.{name}": theirs for name, theirs in source.items()}
        lengths = stage_lengths(source)
        wanted = set(self.shapes)
        if new_classes:
            wanted = {name for name in wanted if not re.search(PREDICTORS, name)}
        self.published, ours = {}, {}
        for name, theirs in source.items():
            target = _our_name(name, lengths)
            if new_classes and re.search(PREDICTORS, target):
                continue
            self.published[target] = theirs
            ours[target] = _our_value(name, state[theirs])
        for name in wanted:
            if name.endswith(_COUNTER) and name not in ours:
                self.published[name] = name
                ours[name] = torch.zeros((), dtype=torch.int64)
        check_names(ours, wanted)
        check_shapes(ours, self.shapes)
        return {name: ours[name] for name in self.shapes if name in wanted}

    def _stage_lengths(self) -> list[int]:
        """Count the blocks of the published stages in our layers.

        The second of two stages that share a layer begins where the number of channels changes.
        """
        lengths: dict[int, int] = {}
        for layer in range(1, 6):
            stages = [stage for stage, of in _STAGE_LAYER.items() if of == layer]
            channels = self._block_channels(layer)
            first = channels.count(channels[0])
            for stage, length in zip(stages, (first, len(channels) - first), strict=False):
                lengths[stage] = length
        return [lengths[stage] for stage in sorted(lengths)]

    def _block_channels(self, layer: int) -> list[int]:
        prefix, suffix = f"backbone.layers.{layer}.", ".linear_conv.conv.weight"
        blocks = (n for n in self.shapes if n.startswith(prefix) and n.endswith(suffix))
        return [self.shapes[name][0] for name in blocks]


def _our_name(name: str, lengths: Mapping[int, int]) -> str:
    part, _, rest = name.partition(".")
    if part == "backbone":
        return f"backbone.{our_backbone_name(rest, lengths)}"
    if part in ("bbox_head", "mask_head"):
        return f"roi_head.{name}"
    return name


def _our_value(name: str, value: Tensor) -> Tensor:
    if re.search(r"\.bn\d*\.weight$", name):
        return fold_abn_scale(value, BACKBONE_ABN_EPS if name.startswith("backbone.") else ABN_EPS)
    if name.startswith("bbox_head.fc_cls."):
        return torch.cat([value[1:], value[:1]])
    if name.startswith("bbox_head.fc_reg."):
        return value[4:]
    if name.startswith("mask_head.conv_logits."):
        return value[1:]
    return value
