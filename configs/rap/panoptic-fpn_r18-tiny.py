# A thin ResNet-18 with narrow heads: learns in minutes on two CPU cores. The things of `shapes` are
# 10 to 60 pixels large, so anchors are those of an image four times as large.
_base_ = "./panoptic-fpn.py"

# Their RoIs come from the finest levels: 14 x 14 cells of stride 4 are 56 pixels.
box_rois = dict(out_channels=64, canonical_size=112)
mask_rois = dict(out_channels=64, canonical_size=224)
model = dict(
    data_preprocessor=dict(
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        bgr_to_rgb=True,
    ),
    # From random weights, so the norm layers learn.
    backbone=dict(
        depth=18,
        base_channels=32,
        stem_channels=32,
        style="pytorch",
        frozen_stages=-1,
        norm_cfg=dict(_delete_=True, type="BN"),
        norm_eval=False,
    ),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(sizes=(12, 24, 48, 96, 192)),
    ),
    roi_head=dict(
        bbox_roi_extractor=box_rois,
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=mask_rois,
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64),
    ),
    semantic_head=dict(in_channels=64, channels=64, norm_cfg=dict(type="GN", num_groups=16)),
    fusion_head=dict(stuff_area=64, predict_instances=False),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=200, max_per_img=200),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=300, max_per_img=200),
        rcnn=dict(max_per_img=50),
    ),
)
