# Panoptic FPN, R-50, with the conventions of mmdet in place of Detectron's: boxes end behind their
# last pixel, anchors are not rounded, pixels are aligned in pooling, pasting and resizing, the
# semantic branch has four levels. Weights of detectron2's zoo fit.
_base_ = "./panoptic-fpn.py"

nms_offset = dict(offset=0)
box_overlaps = dict(type="mmdet.BboxOverlaps2D")
roi_extractor = dict(
    _delete_=True,
    type="mmdet.SingleRoIExtractor",
    out_channels=256,
    featmap_strides=(4, 8, 16, 32),
)
model = dict(
    inclusive_boxes=False,
    data_preprocessor=dict(mean=(103.53, 116.28, 123.675)),
    backbone=dict(norm_cfg=dict(eps=1e-5)),
    rpn_head=dict(
        anchor_generator=dict(
            _delete_=True,
            type="mmdet.AnchorGenerator",
            scales=(8,),
            ratios=(0.5, 1.0, 2.0),
            strides=(4, 8, 16, 32, 64),
        ),
        bbox_coder=dict(_delete_=True, type="mmdet.DeltaXYWHBBoxCoder"),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0, aligned=True),
            **roi_extractor,
        ),
        bbox_head=dict(
            bbox_coder=dict(
                _delete_=True,
                type="mmdet.DeltaXYWHBBoxCoder",
                target_stds=(0.1, 0.1, 0.2, 0.2),
            )
        ),
        mask_roi_extractor=dict(
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0, aligned=True),
            **roi_extractor,
        ),
    ),
    semantic_head=dict(num_levels=4, conv_bias=False, align_corners=False),
    fusion_head=dict(mask_mode="grid_sample", align_corners=False),
    train_cfg=dict(
        rpn=dict(assigner=dict(min_pos_iou=0.3, iou_calculator=box_overlaps)),
        rpn_proposal=dict(nms=nms_offset),
        rcnn=dict(assigner=dict(iou_calculator=box_overlaps)),
    ),
    test_cfg=dict(rpn=dict(nms=nms_offset), rcnn=dict(nms=nms_offset)),
)
