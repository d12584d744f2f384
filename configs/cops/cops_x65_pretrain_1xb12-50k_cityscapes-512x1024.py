"""COPS with Xception-65, Cityscapes, first stage: another backbone by config alone.

Paper: Combinatorial Optimization for Panoptic Segmentation, NeurIPS 2021, https://arxiv.org/abs/2106.03188
Reproduces: nothing published; the levels of Panoptic-DeepLab with Xception-65 under the heads of COPS
Published: -
Measured: not yet
Hardware: 1 GPU
Command: python tools/train.py configs/cops/cops_x65_pretrain_1xb12-50k_cityscapes-512x1024.py
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/default_runtime.py",
    "./cops.py",
]

load_from = "mmpanoptic://imagenet/xception65"  # None: random weights

batch_size = 12
max_iters = 50000
base_lr = 1e-4
auto_scale_lr = dict(base_batch_size=12)

levels = dict(in_channels=(256, 728, 2048))
model = dict(
    data_preprocessor=dict(
        mean=(128.0, 128.0, 128.0), std=(128.0, 128.0, 128.0), pad_size_divisor=32
    ),
    # -> (N, 256, H/4, W/4), (N, 728, H/8, W/8), (N, 2048, H/16, W/16)
    backbone=dict(
        _delete_=True,
        type="Xception",
        output_stride=16,
        out_indices=(0, 1, 3),
        norm_cfg=dict(type="SyncBN"),
    ),
    semantic_head=levels,
    instance_head=levels,
)
