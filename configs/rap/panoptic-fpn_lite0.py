# EfficientNet-Lite0 and narrow heads, for images of about 512 pixels.
_base_ = ["../_base_/backbones/efficientnet_lite0.py", "./panoptic-fpn.py"]

# 14 x 14 cells of stride 4 are 56 pixels
box_rois = dict(out_channels=64, canonical_size=112)
mask_rois = dict(out_channels=64, canonical_size=224)
model = dict(
    channels_last=True,
    data_preprocessor={{_base_.lite0_pixels}},
    backbone={{_base_.lite0}},
    # Without norm layers the maps of this backbone are so large that the mask loss begins at 5.
    neck=dict(
        in_channels=[24, 40, 112, 1280],
        out_channels=64,
        norm_cfg=dict(type="GN", num_groups=16),
    ),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(sizes=(16, 32, 64, 128, 256)),
    ),
    roi_head=dict(
        bbox_roi_extractor=box_rois,
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=mask_rois,
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64),
    ),
    semantic_head=dict(
        in_channels=64, channels=64, norm_cfg=dict(type="GN", num_groups=16), loss_weight=1.0
    ),
    fusion_head=dict(stuff_area="$size_stuff_area", predict_instances=False),
    train_cfg=dict(
        # small crops: most large anchors reach over the border
        rpn=dict(sampler=dict(num=128), allowed_border=-1),
        rpn_proposal=dict(nms_pre=300, max_per_img=300),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=300, max_per_img=300),
        rcnn=dict(max_per_img=100),
    ),
)
