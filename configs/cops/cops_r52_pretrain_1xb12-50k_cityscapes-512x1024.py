"""COPS, ResNet-52, Cityscapes, first stage: the heads learn from their own losses, 50k iterations.

Paper: Combinatorial Optimization for Panoptic Segmentation, NeurIPS 2021, https://arxiv.org/abs/2106.03188
Reproduces: COPS's Cityscapes-PanopticSegmentation/panoptic_affinity_pretrain
Published: - (the start of cops_r52_e2e_1xb24-20k_cityscapes-512x1024.py)
Measured: not yet
Hardware: 1 GPU
Command: python tools/train.py configs/cops/cops_r52_pretrain_1xb12-50k_cityscapes-512x1024.py
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/default_runtime.py",
    "./cops.py",
]

load_from = "mmpanoptic://imagenet/resnet52-deeplab"  # None: random weights

batch_size = 12
max_iters = 50000
base_lr = 1e-4
checkpoint_interval = 5000
auto_scale_lr = dict(base_batch_size=12)
