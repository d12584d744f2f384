"""SOLOv2-light, ResNet-34, Cityscapes, 40 epochs: the instance part of the location-based EfficientPS.

Paper: SOLOv2, NeurIPS 2020, https://arxiv.org/abs/2003.10152
Reproduces: the SOLOv2 part of Location-Based-Panoptic-Segmentation-with-SOLOv2
Published: -
Measured: not yet
Hardware: 1 GPU with 8 GB
Command: python tools/train.py configs/solov2/solov2-light_r34_1xb2-60k_cityscapes.py
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./solov2-light.py",
]

with_instances = True
batch_size = 2
base_lr = 1e-2
auto_scale_lr = dict(base_batch_size=2)
warmup_factor = 0.01
clip_grad = dict(max_norm=35, norm_type=2)
max_iters = 59500  # 40 epochs; steps after 27 and 33
milestones = ["$max_iters*27/40", "$max_iters*33/40"]
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(type="ResizeShortestEdge", short_edge=[352, 384, 416, 448, 480, 512], max_size=768),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge=448, max_size=768),
    dict(type="PackPanopticInputs"),
]
model = dict(
    backbone=dict(
        depth=34,
        init_cfg=dict(checkpoint="mmpanoptic://imagenet/resnet34"),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
val_evaluator = dict(
    _delete_=True,
    type="CityscapesInstanceMetric",
    source="pred_instances",
    data_root="$data_root",
    gt_root="$val_gt",
)
test_evaluator = val_evaluator
