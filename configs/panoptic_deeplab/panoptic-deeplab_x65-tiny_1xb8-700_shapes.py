"""Panoptic-DeepLab with an Xception-65 of a quarter of the width on the generated dataset.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: nothing published; shows within minutes that this backbone learns
Published: -
Measured: see configs/panoptic_deeplab/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/panoptic_deeplab/panoptic-deeplab_x65-tiny_1xb8-700_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./panoptic-deeplab_r18-tiny.py",
]

max_iters = 700
checkpoint_interval = 350
levels = dict(in_channels=(64, 184, 512))
model = dict(
    data_preprocessor=dict(mean=(128.0, 128.0, 128.0), std=(128.0, 128.0, 128.0)),
    backbone=dict(
        _delete_=True,
        type="Xception",
        output_stride=16,
        width_factor=0.25,
        out_indices=(0, 1, 3),
        norm_cfg=dict(type="SyncBN"),
    ),
    semantic_head=levels,
    instance_head=levels,
)
