"""Panoptic-DeepLab with a small HRNet on the generated dataset.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: nothing published; shows within minutes that this backbone learns
Published: -
Measured: see configs/panoptic_deeplab/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/panoptic_deeplab/panoptic-deeplab_h8-tiny_1xb8-900_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./panoptic-deeplab_r18-tiny.py",
]

max_iters = 900
checkpoint_interval = 450
levels = dict(
    in_channels=(8, 16, 32, 64),
    in_strides=(4, 8, 16, 32),
    project_channels=(16, 32, 32),
    aspp_dilations=(1, 2, 3),
)
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        _delete_=True,
        type="HRNet",
        width=8,
        num_modules=(1, 1, 1),
        num_blocks=2,
        num_stem_blocks=1,
        norm_cfg=dict(type="SyncBN"),
    ),
    semantic_head=levels,
    instance_head=levels,
)
