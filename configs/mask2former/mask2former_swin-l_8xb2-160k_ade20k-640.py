"""Mask2Former with Swin-L on ADE20K.

Paper: Masked-attention Mask Transformer, CVPR 2022, https://arxiv.org/abs/2112.01527
Reproduces: the published model without its colour jitter; a training starts from the published weights, which are CC BY-NC 4.0
Published: PQ 48.1
Measured: not trained here
Hardware: none yet
Command: tools/dist_train.sh configs/mask2former/mask2former_swin-l_8xb2-160k_ade20k-640.py 4
"""

_base_ = [
    "../_base_/datasets/ade20k_panoptic.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/default_runtime.py",
    "./mask2former_swin-l.py",
]

max_iters = 160000
base_lr = 1e-4
batch_size = 2
warmup_iters = 0
model = dict(pretrained="facebook/mask2former-swin-large-ade-panoptic")
optim_wrapper = dict(paramwise_cfg={{_base_.rates}})
