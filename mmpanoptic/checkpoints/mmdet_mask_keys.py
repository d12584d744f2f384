"""Published names of mmdet's MaskFormer and Mask2Former, which are ours."""

from __future__ import annotations

from .key_map import KeyMap, Layout


class MMDetMaskKeyMap(KeyMap):
    """Names of ``MMDetPanopticSegmentor``."""

    layouts = (Layout(mark=r"panoptic_head\."),)
    class_bound = r"panoptic_head\.cls_embed\."
