"""SOLOv2-light, ResNet-18, COCO, 36 epochs, short edge 448.

Paper: SOLOv2, NeurIPS 2020, https://arxiv.org/abs/2003.10152
Reproduces: SOLOv2_LIGHT_448_R18_3x of WXinlong/SOLO
Published: mask AP 29.6 (COCO minival)
Measured: not yet
Hardware: 8 GPUs with 8 GB each
Command: tools/dist_train.sh configs/solov2/solov2-light_r18_8xb2-270k_coco-448.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./solov2-light.py",
]

with_instances = True
train_instances = "annotations/instances_train2017.json"
batch_size = 2
base_lr = 1e-2  # for 16 images
warmup_factor = 0.01
clip_grad = dict(max_norm=35, norm_type=2)
max_iters = 270000
milestones = ["$max_iters*9/12", "$max_iters*11/12"]
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
        depth=18,
        init_cfg=dict(checkpoint="mmpanoptic://imagenet/resnet18"),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
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
