"""EfficientPS with Mask R-CNN, EfficientNet-B5, Cityscapes at half size: one GPU, Adam, stop on PQ.

Paper: EfficientPS, IJCV 2021, https://arxiv.org/abs/2004.02307
Reproduces: the recipe of vincrichard/EfficientPS and of the EfficientPS part of
    Location-Based-Panoptic-Segmentation-with-SOLOv2; the network, losses and fusion are those of
    the paper, which theirs miss in several places
Published: PQ 45.4, SQ 75.4, RQ 57.9, PQ_th 34.4, PQ_st 53.4 (vincrichard/EfficientPS, Cityscapes
    val, epoch 21); the other project's log has PQ 39.5, SQ 73.8, RQ 50.7 (best of 19 epochs)
Measured: not yet
Hardware: 1 GPU of 11 GB (estimated)
Command: python tools/train.py configs/efficientps/efficientps-maskrcnn_b5_1xb3-50k_cityscapes-512x1024.py
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/default_runtime.py",
    "./efficientps-maskrcnn.py",
]

load_from = "mmpanoptic://imagenet/efficientnet-b5"  # None: random weights
batch_size = 3

# Adam whose rate falls to a tenth when PQ has not risen for 3 epochs, down to 1e-4; training ends when
# it has not risen for 5, or after 50 epochs.
max_iters = 49600
epoch_iters = "$max_iters*1/50"  # 2975 images, 3 at a time
warmup_iters = 500
base_lr = 1.3e-3
val_interval = "$epoch_iters"
checkpoint_interval = "$epoch_iters"
auto_scale_lr = dict(
    enable=False, base_batch_size=3
)  # images per iteration that the numbers are for
optim_wrapper = dict(
    type="AutocastOptimWrapper",  # mixed precision
    optimizer=dict(type="Adam", lr="$base_lr", weight_decay=1e-4),
    clip_grad=dict(max_norm=15, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 500, by_epoch=False, begin=0, end="$warmup_iters"),
    dict(
        type="ReduceOnPlateauLR",  # takes a step after each validation
        monitor="coco_panoptic/PQ",
        rule="greater",
        factor=0.1,
        patience=3,
        min_value=1e-4,
    ),
]
default_hooks = dict(checkpoint=dict(save_best="coco_panoptic/PQ"))
custom_hooks = [
    dict(type="NonFiniteLossHook"),
    dict(type="StopSignalHook"),
    dict(type="DataErrorSummaryHook"),
    dict(type="PatienceStopHook", monitor="coco_panoptic/PQ", patience=5),
]
train_cfg = dict(type="IterTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

# Whole images at half size, in training and testing.
resize = dict(type="ResizeShortestEdge", short_edge=512, max_size=1024)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    resize,
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances=True),
]
test_pipeline = [
    dict(type="LoadImage"),
    resize,
    dict(type="PackPanopticInputs"),
]
model = dict(
    # ImageNet's statistics, as published; the authors' code has those of Mapillary Vistas
    data_preprocessor=dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
)
