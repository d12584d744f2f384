"""COPS with HRNet-W48, Cityscapes, first stage: another backbone by config alone.

Paper: Combinatorial Optimization for Panoptic Segmentation, NeurIPS 2021, https://arxiv.org/abs/2106.03188
Reproduces: nothing published; the levels of Panoptic-DeepLab with HRNet-W48 under the heads of COPS
Published: -
Measured: not yet
Hardware: 1 GPU
Command: python tools/train.py configs/cops/cops_h48_pretrain_1xb12-50k_cityscapes-512x1024.py
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/default_runtime.py",
    "./cops.py",
]

load_from = "mmpanoptic://imagenet/hrnet-w48"  # None: random weights

batch_size = 12
max_iters = 50000
base_lr = 1e-4
auto_scale_lr = dict(base_batch_size=12)

levels = dict(
    in_channels=(48, 96, 192, 384),
    in_strides=(4, 8, 16, 32),
    project_channels=(32, 64, 128),
    aspp_dilations=(3, 6, 9),
)
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    # -> (N, 48, H/4, W/4), (N, 96, H/8, W/8), (N, 192, H/16, W/16), (N, 384, H/32, W/32)
    backbone=dict(_delete_=True, type="HRNet", width=48, norm_cfg=dict(type="SyncBN")),
    semantic_head=levels,
    instance_head=levels,
)
