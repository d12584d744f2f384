"""Published names of Panoptic FPN outside of RAP: those of detectron2 and of mmdetection."""

from __future__ import annotations

from typing import Any

import torch

from .backbone_keys import DETECTRON2_FPN
from .detectron_keys import CLASS_LAYERS
from .key_map import KeyMap, Layout

DETECTRON2 = Layout(
    (
        *DETECTRON2_FPN,
        (r"^rpn_head\.rpn_conv\.", "proposal_generator.rpn_head.conv."),
        (r"^rpn_head\.rpn_cls\.", "proposal_generator.rpn_head.objectness_logits."),
        (r"^rpn_head\.rpn_reg\.", "proposal_generator.rpn_head.anchor_deltas."),
        (
            r"^roi_head\.bbox_head\.shared_fcs\.(\d)\.",
            lambda m: f"roi_heads.box_head.fc{int(m[1]) + 1}.",
        ),
        (r"^roi_head\.bbox_head\.fc_cls\.", "roi_heads.box_predictor.cls_score."),
        (r"^roi_head\.bbox_head\.fc_reg\.", "roi_heads.box_predictor.bbox_pred."),
        (
            r"^roi_head\.mask_head\.convs\.(\d)\.conv\.",
            lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}.",
        ),
        (r"^roi_head\.mask_head\.upsample\.", "roi_heads.mask_head.deconv."),
        (r"^roi_head\.mask_head\.conv_logits\.", "roi_heads.mask_head.predictor."),
        (
            r"^semantic_head\.branches\.(\d)\.(\d)\.([01])\.",  # an upsampling behind each
            lambda m: f"sem_seg_head.p{int(m[1]) + 2}.{2 * int(m[2])}." + "norm." * int(m[3]),
        ),
        (r"^semantic_head\.conv_logits\.", "sem_seg_head.predictor."),
    ),
    mark=r"sem_seg_head\.",
    dropped=(r"proposal_generator\.anchor_generator\.cell_anchors\.",),
)
MMDET = Layout(
    (
        (
            r"^(semantic_head)\.branches\.(\d)\.(\d)\.([01])\.",
            lambda m: (
                f"{m[1]}.conv_upsample_layers.{m[2]}.conv.{m[3]}.{('conv', 'gn')[int(m[4])]}."
            ),
        ),
    ),
    mark=r"semantic_head\.conv_upsample_layers\.",
)
_NEVER = -100.0
"""Bias of a channel that no pixel gets."""


class PanopticFPNKeyMap(KeyMap):
    """Names of Panoptic FPN with mmdet's conventions, ``configs/rap/panoptic-fpn-modern.py``.

    The semantic channels of ours are void, stuff, all things. Published ones have no void, which
    gets weight 0 and a bias that never wins; detectron2's begin with the things.
    """

    layouts = (DETECTRON2, MMDET)
    class_bound = rf"{CLASS_LAYERS}|semantic_head\.conv_logits\."

    def arrange(self, ours: str, value: Any, layout: Layout) -> Any:
        """Add the channel of void and put the things last."""
        if not ours.startswith("semantic_head.conv_logits."):
            return value
        value = torch.as_tensor(value)
        void = value.new_full(value[:1].shape, _NEVER if ours.endswith("bias") else 0.0)
        rest = value.roll(-1, 0) if layout is DETECTRON2 else value
        return torch.cat([void, rest])

    def restore(self, ours: str, value: Any, layout: Layout) -> Any:
        """Reverse :meth:`arrange`."""
        if not ours.startswith("semantic_head.conv_logits."):
            return value
        rest = torch.as_tensor(value)[1:]
        return rest.roll(1, 0) if layout is DETECTRON2 else rest
