"""Published names of EfficientPS, and of EfficientNet in timm and efficientnet_pytorch."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import torch

from mmpanoptic.models.layers.inplace_abn import ABN_EPS, BACKBONE_ABN_EPS, fold_abn_scale

from .detectron_keys import CLASS_LAYERS, background_first, background_last
from .key_map import CheckpointMismatchError, KeyMap, Layout, Rules

_FIRST, _BLOCK = r"(blocks\.0\.\d+)\.", r"(blocks\.\d+\.\d+)\."
TIMM: Rules = (
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
FLAT: Rules = (
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
BARE: Rules = ((r"^backbone\.", ""),)

AUTHORS = Layout(
    (*TIMM, (r"^roi_head\.", "")), mark=r"(backbone|neck|semantic_head|bbox_head|mask_head)\."
)
IMAGENET_TIMM = Layout(
    (*TIMM, *BARE),
    mark=r"blocks\.",
    part=r"backbone\.",
    dropped=(r"classifier\.", r"blocks\.\d+\.\d+\.se\."),
)
IMAGENET_FLAT = Layout(
    (*FLAT, *BARE),
    mark=r"_blocks\.",
    part=r"backbone\.",
    dropped=(r"_fc\.", r"_blocks\.\d+\._se_"),
)


class EfficientPSKeyMap(KeyMap):
    """Names of EfficientPS with Mask R-CNN and of the ImageNet weights that it starts from.

    The scale of in-place ABN becomes that of a plain batch norm, in ImageNet weights too, since the
    authors' training loads them into in-place ABN. The background class moves from the first to the
    last place of the box classifier and leaves the box regression and the mask predictor.
    """

    layouts = (AUTHORS, IMAGENET_TIMM, IMAGENET_FLAT)
    class_bound = rf"{CLASS_LAYERS}|.*\.conv_logits\."

    @cached_property
    def blocks(self) -> dict[str, tuple[int, int, int]]:
        """Published stage, place in it, and place in the whole row of each of our blocks.

        Our layers go by stride; in those of two stages, the second begins with other kernels.
        """
        end = ".depthwise_conv.conv.weight"
        rows = [n.removesuffix(end) for n in self.shapes if re.match(_OUR_BLOCK, n)]
        rows = [n for n in rows if n + end in self.shapes]
        found: dict[str, tuple[int, int, int]] = {}
        stage, number, before = -1, 0, None
        for row, name in enumerate(rows):
            kind = (name.split(".")[2], self.shapes[name + end][-1])
            stage, number = (stage, number + 1) if kind == before else (stage + 1, 0)
            found[name], before = (stage, number, row), kind
        return found

    def name(self, ours: str, layout: Layout) -> str:
        """Translate a name; published stages go by width, and one code base numbers all blocks."""
        block = re.match(_OUR_BLOCK, ours)
        if block:
            stage, number, row = self.blocks[block[0]]
            place = f"_blocks.{row}" if layout is IMAGENET_FLAT else f"blocks.{stage}.{number}"
            ours = f"backbone.{place}{ours.removeprefix(block[0])}"
        return super().name(ours, layout)

    def arrange(self, ours: str, value: Any) -> Any:
        """Fold scales, move the background."""
        if ours.endswith(".bn.weight"):
            return fold_abn_scale(torch.as_tensor(value), _eps(ours))
        return background_last(ours, value)

    def restore(self, ours: str, value: Any) -> Any:
        """Unfold scales, move the background back.

        Raises:
            CheckpointMismatchError: If in-place ABN cannot express a scale.
        """
        if not ours.endswith(".bn.weight"):
            return background_first(ours, value)
        scale = torch.as_tensor(value) - _eps(ours)
        if (scale < 0).any():
            raise CheckpointMismatchError(
                f"{ours} has scales below {_eps(ours)}, which in-place ABN cannot express"
            )
        return scale


def _eps(ours: str) -> float:
    return BACKBONE_ABN_EPS if ours.startswith("backbone.") else ABN_EPS
