"""EfficientPS with Mask R-CNN, EfficientNet-B5, Mapillary Vistas, 192k iterations at batch 16.

Paper: EfficientPS, IJCV 2021, https://arxiv.org/abs/2004.02307
Reproduces: the schedule of the paper (recalled, to be checked there)
Published: PQ 38.3 single scale, 40.5 multi-scale (recalled; Mapillary Vistas val)
Measured: not yet
Hardware: 16 GPUs, one image each
Command: tools/dist_train.sh configs/efficientps/efficientps-maskrcnn_b5_16xb1-192k_mapillary.py 16
"""

_base_ = [
    "../_base_/datasets/mapillary_panoptic.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./efficientps-maskrcnn.py",
]

load_from = "mmpanoptic://imagenet/efficientnet-b5"  # None: random weights
max_iters = 192000
milestones = ["$max_iters*144/192", "$max_iters*176/192"]
warmup_iters = 200
base_lr = 0.07
batch_size = 1
with_instances = True
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(
        type="ResizeCrop",
        resize=dict(type="ResizeScaleJitter", target_size=(1024, 2048), ratio_range=(0.5, 2.0)),
        crop=dict(type="RandomCrop", crop_size=(1024, 2048)),
    ),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
