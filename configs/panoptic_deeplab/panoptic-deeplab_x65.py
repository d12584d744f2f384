# Panoptic-DeepLab with Xception-65. "mg124" in the names of the published configs is not real: all
# convolutions of the last block have dilation 2 (multi_grid=None).
_base_ = "./panoptic-deeplab.py"

levels = dict(in_channels=(256, 728, 2048))
model = dict(
    data_preprocessor=dict(
        mean=(128.0, 128.0, 128.0), std=(128.0, 128.0, 128.0), pad_size_divisor=32
    ),
    # -> (N, 256, H/4, W/4), (N, 728, H/8, W/8), (N, 2048, H/16, W/16)
    backbone=dict(
        _delete_=True,
        type="Xception",
        output_stride=16,
        out_indices=(0, 1, 3),
        norm_cfg=dict(type="SyncBN"),  # eps 1e-5, although the ImageNet weights had 1e-3
    ),
    semantic_head=levels,
    instance_head=levels,
)
