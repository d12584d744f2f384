"""COPS with a thin ResNet-18 on the generated dataset, first stage: the heads learn from their own losses.

Paper: Combinatorial Optimization for Panoptic Segmentation, NeurIPS 2021, https://arxiv.org/abs/2106.03188
Reproduces: nothing published; the start of cops_r18-tiny_e2e_1xb8-200_shapes.py
Published: -
Measured: see configs/cops/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/cops/cops_r18-tiny_pretrain_1xb8-600_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./cops_r18-tiny.py",
]

max_iters = 600
