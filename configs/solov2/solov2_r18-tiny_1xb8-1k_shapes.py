"""SOLOv2 with a thin ResNet-18 on the generated dataset; whole (amodal) masks.

Paper: SOLOv2, NeurIPS 2020, https://arxiv.org/abs/2003.10152
Reproduces: nothing published; shows within minutes that the whole chain learns
Published: -
Measured: see configs/solov2/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/solov2/solov2_r18-tiny_1xb8-1k_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/default_runtime.py",
    "./solov2.py",
]

with_instances = True
train_instances = "annotations/instances_train.json"
val_instances = "annotations/instances_val.json"
max_iters = 1000
num_grids = (20, 16, 12, 8, 6)
channels = 64
norm_cfg = dict(type="GN", num_groups=8)
model = dict(
    channels_last=True,
    backbone=dict(depth=18, base_channels=32, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=channels),
    instance_head=dict(
        in_channels=channels,
        feat_channels=channels,
        stacked_convs=2,
        mask_channels=32,
        kernel_channels=32,
        scale_ranges=((1, 28), (20, 40), (32, 64), (48, 96), (80, 256)),
        norm_cfg=norm_cfg,
    ),
)
train_dataloader = dict(dataset=dict(instances_file="$train_instances"))
val_evaluator = dict(
    _delete_=True,
    type="CocoInstanceMetric",
    data_root="$data_root",
    ann_file="$val_instances",
    metric="segm",
)
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best="segm_mAP"))
