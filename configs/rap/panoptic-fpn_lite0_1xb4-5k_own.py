"""Panoptic FPN with narrow heads on your own data, from EfficientNet-Lite0's ImageNet weights.

Paper: Panoptic Feature Pyramid Networks, CVPR 2019, https://arxiv.org/abs/1901.02446
Reproduces: nothing published; classes are read from your annotation file
Published: -
Measured: PQ 6.7 (things 2.6, stuff 10.0) after 300 iterations on 100 photographs, docs/real_data.md
Hardware: 2 CPU cores, or any GPU
Command: python tools/train.py configs/rap/panoptic-fpn_lite0_1xb4-5k_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly_own.py",
    "../_base_/validated_runtime.py",
    "./panoptic-fpn_lite0.py",
]

with_instances = True
