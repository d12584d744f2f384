"""A network of Auto-Panoptic's miniature space on the generated dataset.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119
Reproduces: nothing published; shows within minutes that the whole chain learns
Published: -
Measured: PQ 68.6 (things 61.1, stuff 77.5) with 4000 training images
Hardware: 2 CPU cores
Command: python tools/train.py configs/auto_panoptic/auto-panoptic_tiny_1xb8-500_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./auto-panoptic_tiny.py",
]

with_instances = True
model = dict(
    backbone=dict(choices=[2, 0, 1, 1, 0, 2, 1, 0]),
    roi_head=dict(mask_head=dict(choices=[2, 0])),
    semantic_head=dict(choices=[1, 0]),
    f2b=dict(choices=[2, 0, 0, 1]),
    b2f=dict(choices=[1, 1, 0, 2, 0]),
)
