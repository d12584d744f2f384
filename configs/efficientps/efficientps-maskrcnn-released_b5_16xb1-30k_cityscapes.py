"""EfficientPS with Mask R-CNN as released, EfficientNet-B5, Cityscapes, 160 epochs.

Paper: EfficientPS, IJCV 2021, https://arxiv.org/abs/2004.02307
Reproduces: the authors' config (160 epochs of 186 iterations; a tenth at 120 and 144)
Published: PQ 64.4 (authors' code and weights, Cityscapes val, single scale)
Measured: not yet
Hardware: 16 GPUs, one image each
Command: tools/dist_train.sh configs/efficientps/efficientps-maskrcnn-released_b5_16xb1-30k_cityscapes.py 16
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./efficientps-maskrcnn.py",
]

load_from = "mmpanoptic://imagenet/efficientnet-b5"  # None: random weights
max_iters = 29760
milestones = ["$max_iters*120/160", "$max_iters*144/160"]
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
# What the released weights were trained with and the paper does not say: ordinary output
# convolutions, mining across the batch, mask logits times 4, boxes' windows one pixel off.
model = dict(
    neck=dict(separable_out=False),
    semantic_head=dict(loss=dict(mining="batch")),
    fusion_head=dict(inst_logit_scale=4.0, legacy_windows=True),
)

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
