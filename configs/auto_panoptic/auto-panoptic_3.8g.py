# A found network at the final width "3.8G"; the leaves name its operations.
_base_ = "./auto-panoptic.py"

widths = (72, 172, 432, 864, 1728)
bn_cfg = dict(type="SyncBN", momentum=0.01)
model = dict(
    # -> (N, 172, H/4, W/4), (N, 432, H/8, W/8), (N, 864, H/16, W/16), (N, 1728, H/32, W/32)
    neck=dict(in_channels=[172, 432, 864, 1728]),
)
