"""Mask2Former with ResNet-50 on your own data, the network of mmdet.

Paper: Masked-attention Mask Transformer, CVPR 2022, https://arxiv.org/abs/2112.01527
Reproduces: nothing published; starts from mmdet's weights of COCO with a new class layer
Published: -
Measured: not trained here
Hardware: none yet
Command: python tools/train.py configs/mask2former/mask2former_r50_1xb4-5k_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/validated_runtime.py",
    "./mask2former_mmdet.py",
]

load_from = "mmpanoptic://mask2former/mmdet-r50_coco"
max_iters = 5000
base_lr = 1e-4
batch_size = 4
auto_scale_lr = dict(base_batch_size=4)
warmup_iters = 50
val_interval = "$max_iters*1/5"
checkpoint_interval = 1000
optim_wrapper = dict(paramwise_cfg={{_base_.rates}})
