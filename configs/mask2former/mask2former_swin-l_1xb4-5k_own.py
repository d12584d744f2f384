"""Mask2Former with Swin-L on your own data.

Paper: Masked-attention Mask Transformer, CVPR 2022, https://arxiv.org/abs/2112.01527
Reproduces: nothing published; starts from COCO's weights (CC BY-NC 4.0) with a new class layer
Published: -
Measured: not trained here
Hardware: none yet
Command: tools/dist_train.sh configs/mask2former/mask2former_swin-l_1xb4-5k_own.py 4
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/validated_runtime.py",
    "./mask2former_swin-l.py",
]

max_iters = 5000
base_lr = 1e-4
batch_size = 4
auto_scale_lr = dict(base_batch_size=4)
warmup_iters = 50
val_interval = "$max_iters*1/5"
checkpoint_interval = 1000
model = dict(pretrained="facebook/mask2former-swin-large-coco-panoptic")
optim_wrapper = dict(paramwise_cfg={{_base_.rates}})
