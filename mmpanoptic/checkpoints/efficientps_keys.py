"""Published names of EfficientPS: those of the authors' fork of mmdetection."""

from __future__ import annotations

from typing import Any

from .backbone_keys import TIMM_EFFICIENTNET, BackboneKeyMap
from .detectron_keys import CLASS_LAYERS, background_first, background_last
from .key_map import Layout


class EfficientPSKeyMap(BackboneKeyMap):
    """Names of EfficientPS with Mask R-CNN; its backbone has timm's.

    The scale of in-place ABN becomes that of a plain batch norm. The background class moves from
    the first to the last place of the box classifier and leaves the box regression and the mask
    predictor.
    """

    layouts = (Layout((*TIMM_EFFICIENTNET, (r"^roi_head\.", ""))),)
    class_bound = rf"{CLASS_LAYERS}|.*\.conv_logits\."

    def folds(self, ours: str) -> bool:
        """Tell whether a tensor is the scale of a norm layer; all stand for in-place ABN."""
        return ours.endswith(".bn.weight")

    def arrange(self, ours: str, value: Any, layout: Layout) -> Any:
        """Fold scales, move the background."""
        return background_last(ours, super().arrange(ours, value, layout))

    def restore(self, ours: str, value: Any, layout: Layout) -> Any:
        """Unfold scales, move the background back."""
        return background_first(ours, super().restore(ours, value, layout))
