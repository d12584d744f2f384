# Panoptic FPN with ResNeXt-152-32x8d whose 3x3 convolutions are deformable (v1) from C3 on.
_base_ = "./panoptic-fpn.py"

model = dict(
    backbone=dict(
        type="mmdet.ResNeXt",
        depth=152,
        groups=32,
        base_width=8,
        style="pytorch",  # the stride lies in the 3x3 convolution
        dcn=dict(type="DCN", deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    )
)
