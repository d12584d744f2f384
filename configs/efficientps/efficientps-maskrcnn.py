# EfficientPS with a Mask R-CNN head; see efficientps.py for what both share. T things. Boxes and
# anchors follow mmdet 1.x, as the authors' code does.
_base_ = "./efficientps.py"

norm_cfg = dict(type="SyncBN", eps=1e-5, momentum=0.1)
box_overlaps = dict(type="mmpanoptic.DetectronBoxOverlaps")
roi_extractor = dict(
    type="DetectronRoIExtractor",
    out_channels=256,
    featmap_strides=(4, 8, 16, 32),
    canonical_size=56,  # boxes of 56 pixels and smaller belong to level 0
    canonical_level=0,
)
model = dict(
    type="TwoStagePanopticSegmentor",
    thing_labels="$thing_labels",
    inclusive_boxes=True,
    # -> for each level objectness (N, 3, h, w) and deltas (N, 12, h, w); then boxes (K, 4)
    rpn_head=dict(
        type="mmdet.RPNHead",
        in_channels=256,
        feat_channels=256,
        anchor_generator=dict(
            type="mmdet.LegacyAnchorGenerator",
            scales=[8],
            ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32],
            center_offset=0.5,
        ),
        bbox_coder=dict(type="mmpanoptic.DetectronBoxCoder"),
        loss_cls=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=True),
        loss_bbox=dict(type="mmdet.SmoothL1Loss", beta=1 / 9),
    ),
    roi_head=dict(
        type="PanopticRoIHead",
        # boxes (K, 4) -> features (K, 256, 7, 7) -> class logits (K, T + 1), deltas (K, 4T)
        bbox_roi_extractor=dict(
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=2, aligned=False),
            **roi_extractor,
        ),
        bbox_head=dict(
            type="mmdet.Shared2FCBBoxHead",
            num_classes="$num_things",
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            bbox_coder=dict(type="mmpanoptic.DetectronBoxCoder", target_stds=(0.1, 0.1, 0.2, 0.2)),
            cls_predictor_cfg=dict(type="mmdet.Linear"),
            reg_predictor_cfg=dict(type="mmdet.Linear"),
            loss_cls=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=False),
            loss_bbox=dict(type="mmdet.SmoothL1Loss", beta=1.0),
        ),
        # -> features (K, 256, 14, 14) -> mask logits (K, T, 28, 28)
        mask_roi_extractor=dict(
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=2, aligned=False),
            **roi_extractor,
        ),
        mask_head=dict(
            type="SeparableMaskHead",
            num_classes="$num_things",
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            norm_cfg=norm_cfg,
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type="mmdet.MaxIoUAssigner",
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                ignore_iof_thr=-1,
                iou_calculator=box_overlaps,
            ),
            sampler=dict(
                type="mmdet.RandomSampler", num=256, pos_fraction=0.5, add_gt_as_proposals=False
            ),
            allowed_border=-1,
            pos_weight=-1,
        ),
        rpn_proposal=dict(
            nms_pre=2000,
            max_per_img=2000,
            nms=dict(type="nms", iou_threshold=0.7, offset=1),
            min_bbox_size=-1,
        ),
        rcnn=dict(
            assigner=dict(
                type="mmdet.MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=True,
                ignore_iof_thr=-1,
                iou_calculator=box_overlaps,
            ),
            sampler=dict(
                type="mmdet.RandomSampler", num=256, pos_fraction=0.25, add_gt_as_proposals=True
            ),
            mask_size=28,
            pos_weight=-1,
        ),
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=1000,
            max_per_img=1000,
            nms=dict(type="nms", iou_threshold=0.7, offset=1),
            min_bbox_size=-1,
        ),
        rcnn=dict(
            score_thr=0.05,  # the fusion takes those from 0.5 on; AP needs the others, too
            nms=dict(type="nms", iou_threshold=0.5, offset=1),
            max_per_img=100,
        ),
    ),
)

# tools/test.py --tta
tta_model = dict(type="TwoStageTTAModel")
