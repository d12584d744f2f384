# The supernet of Auto-Panoptic, published width "1.3G"; N images of size (H, W), T things, S stuff
# classes. A list of numbers in place of each `choices=None` makes a fixed network of it.
widths = (48, 96, 240, 480, 960)  # stem and stages
bn_cfg = dict(type="SyncBN")  # becomes BN where there is one process or no GPU
gn_cfg = dict(type="GN", num_groups=32)
block_ops = ("shufflenet_3x3", "shufflenet_5x5", "shufflenet_7x7", "xception_3x3")
head_ops = ("DWConv3x3", "DWConv5x5", "DFConv3x3", "DFConv5x5", "ATConv3x3", "ATConv5x5")
reductions = (4, 8, 6)  # r4, r8, r16; the last is 6 in the published code, (4, 8, 16) corrects it
box_overlaps = dict(type="mmpanoptic.DetectronBoxOverlaps")
nms = dict(type="nms", offset=1)  # boxes hold their ends
roi_extractor = dict(
    type="DetectronRoIExtractor",
    out_channels=256,
    featmap_strides=(4, 8, 16, 32),
)
model = dict(
    type="AutoPanoptic",
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
    # -> (N, 96, H/4, W/4), (N, 240, H/8, W/8), (N, 480, H/16, W/16), (N, 960, H/32, W/32)
    backbone=dict(
        type="ShuffleNetV2Plus",
        widths="$widths",
        depths=(8, 8, 16, 8),
        ops="$block_ops",
        choices=None,
        norm_cfg="$bn_cfg",
    ),
    # -> P2 to P6, (N, 256, H/4, W/4) to (N, 256, H/64, W/64)
    neck=dict(
        type="mmdet.FPN",
        in_channels=[96, 240, 480, 960],
        out_channels=256,
        num_outs=5,
        norm_cfg="$gn_cfg",
        init_cfg=dict(type="Caffe2Xavier", layer="Conv2d"),  # Kaiming, uniform, a = 1
    ),
    # pooled P3 to P6 (N, 1024) -> weights (N, 128) of the semantic features of P2 to P5
    f2b=dict(
        in_channels=1024, out_channels=128, num_units=4, reductions="$reductions", choices=None
    ),
    # pooled semantic features (N, 512) -> weights (N, 256) of P2 to P6
    b2f=dict(
        in_channels=512, out_channels=256, num_units=5, reductions="$reductions", choices=None
    ),
    # for each modulated level objectness (N, 3, h, w) and deltas (N, 12, h, w); then boxes (K, 4)
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
            type="NormedFCBBoxHead",
            num_classes="$num_things",
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            norm_cfg="$gn_cfg",
            bbox_coder=dict(type="mmpanoptic.DetectronBoxCoder", target_stds=(0.1, 0.1, 0.2, 0.2)),
        ),
        # -> features (K, 256, 14, 14) -> mask logits (K, T, 28, 28)
        mask_roi_extractor=dict(
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=2, aligned=False),
            **roi_extractor,
        ),
        mask_head=dict(
            type="SearchableMaskHead",
            num_classes="$num_things",
            in_channels=256,
            channels=256,
            num_layers=4,
            ops="$head_ops",
            choices=None,
            norm_cfg="$gn_cfg",
        ),
    ),
    # P2 to P5, before the modulation -> logits (N, 1 + S, H/4, W/4): all things, stuff
    semantic_head=dict(
        type="SearchableSemanticHead",
        stuff_labels="$stuff_labels",
        thing_labels="$thing_labels",
        in_channels=256,
        channels=128,
        num_layers=3,
        num_levels=4,
        ops="$head_ops",
        choices=None,
        norm_cfg="$gn_cfg",
        loss_weight=0.3,
    ),
    # -> index map (H, W) at the size of the original image, and its segments
    fusion_head=dict(
        type="LabelResizeFusionHead",
        stuff_labels="$stuff_labels",
        thing_labels="$thing_labels",
        order="area",  # confident instances by ascending area, the others by descending score
        area_order_thr=0.725,
        score_thr=0.5,
        overlap_thr=0.5,
        stuff_area=4096,
        mask_mode="legacy",
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
            nms_pre=2000,
            max_per_img=2000,
            max_per_batch=2000,  # of all images of a GPU together
            nms=dict(iou_threshold=0.7, **nms),
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
            nms=dict(iou_threshold=0.7, **nms),
            min_bbox_size=-1,
        ),
        rcnn=dict(score_thr=0.05, nms=dict(iou_threshold=0.5, **nms), max_per_img=100),
    ),
)

# What can be chosen, and where the model's config takes it. Architectures are written in this
# order, as one digit per decision or as lists `backbone`, `head` (mask, semantic) and `inter`.
search_space = [
    dict(
        name="backbone",
        size=40,
        choices="$block_ops",
        key="backbone.choices",
    ),
    dict(
        name="mask", size=4, choices="$head_ops", key="roi_head.mask_head.choices", section="head"
    ),
    dict(name="semantic", size=3, choices="$head_ops", key="semantic_head.choices", section="head"),
    dict(name="f2b", size=4, choices=("r4", "r8", "r16"), key="f2b.choices", section="inter"),
    dict(name="b2f", size=5, choices=("r4", "r8", "r16"), key="b2f.choices", section="inter"),
]
