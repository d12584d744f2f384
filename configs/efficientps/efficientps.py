# What both EfficientPS models share; N images of size (H, W), C classes. The instance branch comes
# with efficientps-maskrcnn.py or efficientps-solov2.py.
norm_cfg = dict(type="SyncBN", eps=1e-5, momentum=0.1)  # BN where there is one process or no GPU
model = dict(
    type="PanopticSegmentor",
    # uint8 BGR -> normalised RGB (N, 3, H, W), padded to a multiple of 32; the statistics are those
    # of Mapillary Vistas, for every dataset
    data_preprocessor=dict(
        type="PanopticDataPreprocessor",
        mean=(106.433, 116.617, 119.559),
        std=(65.496, 67.6, 74.123),
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    # -> (N, 40, H/4, W/4), (N, 64, H/8, W/8), (N, 176, H/16, W/16), (N, 2048, H/32, W/32)
    backbone=dict(
        type="LeakyEfficientNet",
        arch="b5",
        norm_cfg=dict(type="SyncBN", eps=1e-3, momentum=0.1),
    ),
    # -> (N, 256, H/4, W/4) to (N, 256, H/32, W/32)
    neck=dict(
        type="TwoWayFPN",
        in_channels=(40, 64, 176, 2048),
        out_channels=256,
        separable_out=True,
        norm_cfg=norm_cfg,
    ),
    # -> logits (N, C, H/4, W/4)
    semantic_head=dict(
        type="EfficientPSHead",
        num_classes="$num_classes",
        in_channels=256,
        channels=128,
        norm_cfg=norm_cfg,
        # a quarter of the pixels of each image
        loss=dict(type="HardPixelMiningLoss", top_k=0.25, mining="image", round_up=True),
    ),
    # -> panoptic map (H, W)
    fusion_head=dict(
        type="AdaptiveLogitFusionHead",
        num_classes="$num_classes",
        thing_labels="$thing_labels",
        score_thr=0.5,
        overlap_thr=0.5,
        stuff_area=2048,
        inst_logit_scale=1.0,  # the paper's formula
    ),
)
