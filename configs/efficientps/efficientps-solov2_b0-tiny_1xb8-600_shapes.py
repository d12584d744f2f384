"""EfficientPS with SOLOv2, thin EfficientNet-B0, on the generated dataset; trained jointly.

Paper: EfficientPS, IJCV 2021, https://arxiv.org/abs/2004.02307;
    SOLOv2, NeurIPS 2020, https://arxiv.org/abs/2003.10152
Reproduces: nothing published; shows within minutes that the whole chain learns
Published: -
Measured: see configs/efficientps/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/efficientps/efficientps-solov2_b0-tiny_1xb8-600_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./efficientps-solov2.py",
]

with_instances = True
max_iters = 600
num_grids = (20, 16, 12, 8, 6)
channels = 64
model = dict(
    channels_last=True,
    backbone=dict(arch="b0", width_factor=0.5, depth_factor=0.5),
    neck=dict(in_channels=(16, 24, 56, 640), out_channels=channels),
    # every pixel counts in a short run
    semantic_head=dict(in_channels=channels, channels=32, loss=dict(top_k=1.0)),
    instance_head=dict(
        in_channels=channels,
        feat_channels=channels,
        stacked_convs=2,
        mask_channels=32,
        kernel_channels=32,
        scale_ranges=((1, 28), (20, 40), (32, 64), (48, 96), (80, 256)),
        norm_cfg=dict(type="GN", num_groups=8),
    ),
    # scores are low after a short run, and smaller pieces of stuff are mistakes
    fusion_head=dict(fusion=dict(score_thr=0.2, stuff_area=512)),
)
