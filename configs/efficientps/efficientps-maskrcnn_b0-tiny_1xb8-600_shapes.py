"""EfficientPS (Mask R-CNN) with a thin EfficientNet-B0 on the generated dataset.

Paper: EfficientPS, IJCV 2021, https://arxiv.org/abs/2004.02307
Reproduces: nothing published; shows within minutes that the whole chain learns
Published: -
Measured: see configs/efficientps/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/efficientps/efficientps-maskrcnn_b0-tiny_1xb8-600_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./efficientps-maskrcnn.py",
]

max_iters = 600
with_instances = True
model = dict(
    channels_last=True,  # faster on CPUs
    backbone=dict(arch="b0", width_factor=0.5, depth_factor=0.5),
    neck=dict(in_channels=(16, 24, 56, 640), out_channels=64),
    semantic_head=dict(
        in_channels=64,
        channels=32,
        # with hard pixel mining a short run learns the things of `shapes` but not its textures
        loss=dict(top_k=1.0),
    ),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[4]),  # sides of 16 to 128 pixels
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, canonical_size=28),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=64, canonical_size=28),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64),
    ),
    fusion_head=dict(stuff_area=64),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=300, max_per_img=200),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100)),
)
