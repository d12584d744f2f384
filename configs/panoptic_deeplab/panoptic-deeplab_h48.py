# Panoptic-DeepLab with HRNet-W48. "os16_mg124" in the names of the published configs is not real:
# the network is not dilated and has four levels.
_base_ = "./panoptic-deeplab.py"

levels = dict(
    in_channels=(48, 96, 192, 384),
    in_strides=(4, 8, 16, 32),
    project_channels=(32, 64, 128),
    aspp_dilations=(3, 6, 9),
)
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    # -> (N, 48, H/4, W/4), (N, 96, H/8, W/8), (N, 192, H/16, W/16), (N, 384, H/32, W/32)
    backbone=dict(_delete_=True, type="HRNet", width=48, norm_cfg=dict(type="SyncBN")),
    semantic_head=levels,
    instance_head=levels,
)
