"""Published names of SOLOv2: those of WXinlong/SOLO and of mmdetection."""

from __future__ import annotations

from .key_map import KeyMap, Layout

# Backbone and neck have the same names everywhere.
OFFICIAL = Layout(
    (
        (r"^instance_head\.cls_convs\.", "bbox_head.cate_convs."),
        (r"^instance_head\.kernel_convs\.", "bbox_head.kernel_convs."),
        (r"^instance_head\.conv_cls\.", "bbox_head.solo_cate."),
        (r"^instance_head\.conv_kernel\.", "bbox_head.solo_kernel."),
        (r"^instance_head\.mask_feature_head\.conv_pred\.", "mask_feat_head.conv_pred.0."),
        (r"^instance_head\.mask_feature_head\.", "mask_feat_head."),
    ),
    mark=r"bbox_head\.",
)
MMDET = Layout(((r"^instance_head\.", "mask_head."),), mark=r"mask_head\.")


class SOLOv2KeyMap(KeyMap):
    """Names of SOLOv2 as an instance model."""

    layouts = (OFFICIAL, MMDET)
    class_bound = r"instance_head\.conv_cls\."
