"""Mask2Former with Swin-L on Cityscapes.

Paper: Masked-attention Mask Transformer, CVPR 2022, https://arxiv.org/abs/2112.01527
Reproduces: the published model without its colour jitter; a training starts from the published weights, which are CC BY-NC 4.0
Published: PQ 66.6
Measured: not trained here
Hardware: none yet
Command: tools/dist_train.sh configs/mask2former/mask2former_swin-l_8xb2-90k_cityscapes-512x1024.py 4
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/default_runtime.py",
    "./mask2former_swin-l.py",
]

max_iters = 90000
base_lr = 1e-4
batch_size = 2
warmup_iters = 0
train_short_edge = list(range(512, 2049, 64))
model = dict(pretrained="facebook/mask2former-swin-large-cityscapes-panoptic")
optim_wrapper = dict(paramwise_cfg={{_base_.rates}})
