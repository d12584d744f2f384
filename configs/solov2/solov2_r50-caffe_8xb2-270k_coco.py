"""SOLOv2, ResNet-50 of Caffe, COCO, 36 epochs, several scales.

Paper: SOLOv2, NeurIPS 2020, https://arxiv.org/abs/2003.10152
Reproduces: SOLOv2_R50_3x of AdelaiDet, with the schedule of WXinlong/SOLO
Published: mask AP 37.6 (COCO val2017; weights mmpanoptic://solov2/adelaidet-r50-3x_coco)
Measured: not yet
Hardware: 8 GPUs with 8 GB each
Command: tools/dist_train.sh configs/solov2/solov2_r50-caffe_8xb2-270k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./solov2.py",
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
    dict(type="ResizeShortestEdge", short_edge=[640, 672, 704, 736, 768, 800], max_size=1333),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge=800, max_size=1333),
    dict(type="PackPanopticInputs"),
]
train_dataloader = dict(dataset=dict(instances_file="$train_instances"))
val_evaluator = dict(
    _delete_=True,
    type="CocoInstanceMetric",
    data_root="$data_root",
    ann_file="$val_instances",
    metric="segm",
)
test_evaluator = val_evaluator

model = dict(
    data_preprocessor=dict(mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0), bgr_to_rgb=False),
    backbone=dict(
        style="caffe",  # the stride lies in the first 1x1 convolution
        norm_cfg=dict(requires_grad=False),
        init_cfg=dict(checkpoint="mmpanoptic://imagenet/resnet50-caffe"),
    ),
)
