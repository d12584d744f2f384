# Panoptic FPN with ResNeXt-152-32x8d.
_base_ = "./panoptic-fpn.py"

model = dict(
    backbone=dict(
        type="mmdet.ResNeXt",
        depth=152,
        groups=32,
        base_width=8,
        style="pytorch",  # the stride lies in the 3x3 convolution
    )
)
