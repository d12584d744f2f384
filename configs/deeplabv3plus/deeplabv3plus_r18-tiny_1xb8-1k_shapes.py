"""DeepLabV3+ with a thin ResNet-18 on the generated dataset: semantic segmentation in minutes.

Paper: DeepLabV3+, ECCV 2018, https://arxiv.org/abs/1802.02611
Reproduces: nothing published; shows that semantic models train and test with the same tools
Published: -
Measured: see configs/deeplabv3plus/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/deeplabv3plus/deeplabv3plus_r18-tiny_1xb8-1k_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/sgd_poly.py",
    "../_base_/default_runtime.py",
    "./deeplabv3plus.py",
]

auto_scale_lr = dict(base_batch_size=8)
max_iters = 1000
checkpoint_interval = 500
val_interval = "$max_iters*1/5"
warmup_iters = 50
base_lr = 5e-2

model = dict(
    data_preprocessor=dict(
        mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), pad_size_divisor=16
    ),
    backbone=dict(
        _delete_=True,
        type="DeepLabResNet",
        depth=18,
        base_width=32,
        stem_channels=32,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        out_indices=(0, 3),
        norm_cfg=dict(type="SyncBN"),
    ),
    semantic_head=dict(
        in_channels=(32, 256),
        project_channels=(16,),
        channels=64,
        separable=True,
        aspp_channels=64,
        aspp_dilations=(2, 4, 6),
        aspp_dropout=0.0,
        pool_crop_size=None,
    ),
)
val_evaluator = dict(_delete_=True, type="SemanticIoUMetric")
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best="mIoU"))
