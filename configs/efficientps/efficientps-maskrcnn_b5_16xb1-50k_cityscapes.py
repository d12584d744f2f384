"""EfficientPS with Mask R-CNN, EfficientNet-B5, Cityscapes, 50k iterations at batch 16.

Paper: EfficientPS, IJCV 2021, https://arxiv.org/abs/2004.02307
Reproduces: the schedule of the paper (recalled, to be checked there)
Published: PQ 63.9, SQ 81.5, RQ 77.1, PQ_th 60.7, PQ_st 66.2, AP 38.3, mIoU 79.3 (recalled;
    Cityscapes val, single scale)
Measured: not yet
Hardware: 16 GPUs, one image each
Command: tools/dist_train.sh configs/efficientps/efficientps-maskrcnn_b5_16xb1-50k_cityscapes.py 16
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./efficientps-maskrcnn.py",
]

load_from = "mmpanoptic://imagenet/efficientnet-b5"  # None: random weights
max_iters = 50000
milestones = ["$max_iters*32/50", "$max_iters*44/50"]
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

# tools/test.py --tta: the scales of the paper (recalled), each with its mirror image
tta_pipeline = [
    dict(type="LoadImage"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="ResizeShortestEdge", short_edge=edge, max_size=2 * edge)
                for edge in (768, 1024, 1280, 1536, 1792, 2048)
            ],
            [dict(type="PanopticRandomFlip", prob=prob) for prob in (0.0, 1.0)],
            [dict(type="PackPanopticInputs")],
        ],
    ),
]
