# The model of Panoptic FPN as RAP publishes it, R-50; N images of size (H, W), T things, S stuff
# classes. Boxes, anchors and norm layers follow Detectron; panoptic-fpn-modern.py follows mmdet.
pad_handling = "crop"  # "squash" reproduces the published weights, see PanopticFPNSemanticHead
norm_cfg = dict(type="BN", requires_grad=False, eps=0)  # frozen, and without eps
box_overlaps = dict(type="mmpanoptic.DetectronBoxOverlaps")
roi_extractor = dict(
    type="mmpanoptic.DetectronRoIExtractor",
    out_channels=256,
    featmap_strides=(4, 8, 16, 32),
)
model = dict(
    type="TwoStagePanopticSegmentor",
    thing_labels="$thing_labels",
    inclusive_boxes=True,
    # uint8 BGR -> BGR minus mean (N, 3, H, W), padded to a multiple of 32
    data_preprocessor=dict(
        type="PanopticDataPreprocessor",
        mean=(102.9801, 115.9465, 122.7717),
        std=(1.0, 1.0, 1.0),
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    # -> (N, 256, H/4, W/4), (N, 512, H/8, W/8), (N, 1024, H/16, W/16), (N, 2048, H/32, W/32)
    backbone=dict(
        type="mmdet.ResNet",
        depth=50,
        style="caffe",  # the stride lies in the first 1x1 convolution
        frozen_stages=1,
        norm_cfg=norm_cfg,
        norm_eval=True,
    ),
    # -> P2 to P6, (N, 256, H/4, W/4) to (N, 256, H/64, W/64)
    neck=dict(
        type="mmdet.FPN",
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        num_outs=5,
    ),
    # -> for each level objectness (N, 3, h, w) and deltas (N, 12, h, w); then boxes (K, 4)
    rpn_head=dict(
        type="mmdet.RPNHead",
        in_channels=256,
        feat_channels=256,
        anchor_generator=dict(
            type="mmpanoptic.DetectronAnchorGenerator",
            strides=(4, 8, 16, 32, 64),
            sizes=(32, 64, 128, 256, 512),
            ratios=(0.5, 1.0, 2.0),
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
            type="mmdet.FCNMaskHead",
            num_classes="$num_things",
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            loss_mask=dict(type="mmdet.CrossEntropyLoss", use_mask=True),
        ),
    ),
    # -> logits (N, 1 + S + 1, H/4, W/4): void, stuff, all things
    semantic_head=dict(
        type="PanopticFPNSemanticHead",
        stuff_labels="$stuff_labels",
        thing_labels="$thing_labels",
        in_channels=256,
        channels=128,
        num_levels=5,
        loss_weight=0.5,
        pad_handling="$pad_handling",
    ),
    # -> index map (H, W) at the size of the original image, and its segments
    fusion_head=dict(
        type="HeuristicFusionHead",
        thing_labels="$thing_labels",
        stuff_labels="$stuff_labels",
        score_thr=0.5,
        overlap_thr=0.5,
        stuff_area=4096,
        mask_mode="legacy",  # pastes as Detectron does
        pad_handling="$pad_handling",
        predict_instances=True,  # for box and mask AP
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type="mmdet.MaxIoUAssigner",
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.0,  # the best anchor of a box is positive, however bad it is
                match_low_quality=True,
                ignore_iof_thr=-1,
                iou_calculator=box_overlaps,
            ),
            sampler=dict(
                type="mmdet.RandomSampler", num=256, pos_fraction=0.5, add_gt_as_proposals=False
            ),
            allowed_border=0,
            pos_weight=-1,
        ),
        rpn_proposal=dict(
            nms_pre=1000,
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
                match_low_quality=False,
                ignore_iof_thr=-1,
                iou_calculator=box_overlaps,
            ),
            sampler=dict(
                type="mmdet.RandomSampler", num=512, pos_fraction=0.25, add_gt_as_proposals=True
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
            score_thr=0.05,
            nms=dict(type="nms", iou_threshold=0.5, offset=1),
            max_per_img=100,
        ),
    ),
)
