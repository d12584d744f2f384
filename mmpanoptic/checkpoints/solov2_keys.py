"""Published names of SOLOv2: those of WXinlong/SOLO, AdelaiDet and mmdetection."""

from __future__ import annotations

from .backbone_keys import DETECTRON2_FPN
from .key_map import KeyMap, Layout

# Backbone and neck have our names in both forks of mmdetection.
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
_TOWER = r"^instance_head\.(cls|kernel)_convs\.(\d)\."
ADELAIDET = Layout(
    (
        *DETECTRON2_FPN,
        (
            _TOWER + r"(conv|gn)\.",  # convolution, norm and ReLU in one row
            lambda m: (
                f"ins_head.{'cate' if m[1] == 'cls' else m[1]}_tower."
                f"{3 * int(m[2]) + (m[3] == 'gn')}."
            ),
        ),
        (r"^instance_head\.conv_cls\.", "ins_head.cate_pred."),
        (r"^instance_head\.conv_kernel\.", "ins_head.kernel_pred."),
        (r"^instance_head\.mask_feature_head\.", "mask_head."),
        (r"^(mask_head\..*)\.conv\.", r"\1.0."),
        (r"^(mask_head\..*)\.gn\.", r"\1.1."),
    ),
    mark=r"ins_head\.",
)
MMDET = Layout(((r"^instance_head\.", "mask_head."),), mark=r"mask_head\.")


class SOLOv2KeyMap(KeyMap):
    """Names of SOLOv2 as an instance model."""

    layouts = (OFFICIAL, ADELAIDET, MMDET)
    class_bound = r"instance_head\.conv_cls\."
