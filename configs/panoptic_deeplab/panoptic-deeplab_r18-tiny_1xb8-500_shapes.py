"""Panoptic-DeepLab with a thin ResNet-18 on the generated dataset: the model of `make demo`.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: nothing published; shows within minutes that the whole chain learns
Published: -
Measured: see configs/panoptic_deeplab/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/panoptic_deeplab/panoptic-deeplab_r18-tiny_1xb8-500_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./panoptic-deeplab_r18-tiny.py",
]
