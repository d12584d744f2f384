"""Mask2Former with ResNet-50 on Cityscapes, the network of mmdet.

Paper: Masked-attention Mask Transformer, CVPR 2022, https://arxiv.org/abs/2112.01527
Reproduces: the published recipe without its colour jitter
Published: PQ 62.1
Measured: not trained here
Hardware: none yet
Command: tools/dist_train.sh configs/mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py 8
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/default_runtime.py",
    "./mask2former_mmdet.py",
]

max_iters = 90000
base_lr = 1e-4
batch_size = 2
warmup_iters = 0
train_short_edge = list(range(512, 2049, 64))
optim_wrapper = dict(paramwise_cfg={{_base_.rates}})
