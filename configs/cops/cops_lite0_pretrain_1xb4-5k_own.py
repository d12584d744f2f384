"""COPS with narrow decoders on your own data, first stage, from EfficientNet-Lite0's ImageNet weights.

Paper: Combinatorial Optimization for Panoptic Segmentation, NeurIPS 2021, https://arxiv.org/abs/2106.03188
Reproduces: nothing published; classes are read from your annotation file
Published: -
Measured: PQ 1.3 (things 0.2, stuff 2.2) after 100 iterations on 100 photographs, docs/real_data.md
Hardware: 2 CPU cores, or any GPU
Command: python tools/train.py configs/cops/cops_lite0_pretrain_1xb4-5k_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly_own.py",
    "../_base_/validated_runtime.py",
    "./cops_lite0.py",
]

base_lr = 3e-3
