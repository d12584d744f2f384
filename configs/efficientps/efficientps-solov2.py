# Location-based EfficientPS: SOLOv2 in place of Mask R-CNN, trained jointly; see efficientps.py
# for what both share. T things, 3872 cells of five grids.
_base_ = "./efficientps.py"

num_grids = (40, 36, 24, 16, 12)
strides = (8, 8, 16, 32, 32)
model = dict(
    # one more level: -> (N, 256, H/4, W/4) to (N, 256, H/64, W/64)
    neck=dict(num_outs=5),
    # -> category logits (N, T, 3872), kernels (N, 256, 3872), mask features (N, 256, H/4, W/4)
    instance_head=dict(
        type="SOLOv2Head",
        num_classes="$num_things",
        thing_labels="$thing_labels",
        in_channels=256,
        feat_channels=512,
        stacked_convs=4,
        mask_channels=128,
        kernel_channels=256,
        num_grids="$num_grids",
        strides="$strides",
        scale_ranges=((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
        pos_scale=0.2,
        avg="pairs",
    ),
    # -> logits of at most 100 instances in their boxes; then the panoptic map (H, W)
    fusion_head=dict(
        _delete_=True,
        type="SOLOv2FusionHead",
        thing_labels="$thing_labels",
        num_grids="$num_grids",
        strides="$strides",
        score_thr=0.1,
        mask_thr=0.5,
        nms_pre=500,
        filter_thr=0.05,
        max_per_img=100,
        kernel="gaussian",
        sigma=2.0,
        fusion=dict(
            type="AdaptiveLogitFusionHead",
            num_classes="$num_classes",
            thing_labels="$thing_labels",
            # below the 0.5 of softmax scores: SOLOv2's are products of category and maskness
            score_thr=0.3,
            overlap_thr=0.5,
            stuff_area=2048,
            inst_logit_scale=1.0,
        ),
    ),
)
