"""Panoptic-DeepLab with a thin ResNet-50 on the generated dataset.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: nothing published; shows within minutes that this backbone learns
Published: -
Measured: see configs/panoptic_deeplab/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/panoptic_deeplab/panoptic-deeplab_r50-tiny_1xb8-900_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./panoptic-deeplab_r18-tiny.py",
]

max_iters = 900
checkpoint_interval = 450
levels = dict(in_channels=(64, 128, 512))
model = dict(
    backbone=dict(depth=50, base_width=16),
    semantic_head=levels,
    instance_head=levels,
)
