# The model of Panoptic-DeepLab, published R-52 form (regular convolutions, Cityscapes); N images
# of size (H, W), C classes.
norm_cfg = dict(type="SyncBN")  # becomes BN where there is one process or no GPU
decoder = dict(
    in_channels=(256, 512, 2048),
    in_strides=(4, 8, 16),
    project_channels=(32, 64),
    aspp_channels=256,
    aspp_dilations=(6, 12, 18),
    aspp_dropout=0.1,
    pool_crop_size=(512, 1024),  # the image pooling's window is the training crop, in testing too
    separable=False,
    norm_cfg=norm_cfg,
)
model = dict(
    type="PanopticSegmentor",
    channels_last=True,  # a sixth faster on CPUs, in training and inference
    # uint8 BGR -> normalised RGB (N, 3, H, W), padded to the largest image of the batch
    data_preprocessor=dict(
        type="PanopticDataPreprocessor",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        bgr_to_rgb=True,
        pad_size_divisor=0,
    ),
    # -> (N, 256, H/4, W/4), (N, 512, H/8, W/8), (N, 2048, H/16, W/16)
    backbone=dict(
        type="DeepLabResNet",
        depth=50,
        stem="deeplab",
        stem_channels=128,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        multi_grid=(2, 4, 8),
        out_indices=(0, 1, 3),
        norm_cfg=norm_cfg,
    ),
    # -> logits (N, C, H/4, W/4)
    semantic_head=dict(
        type="DeepLabHead",
        num_classes="$num_classes",
        channels=256,
        head_channels=256,
        loss=dict(type="HardPixelMiningLoss", top_k=0.2, loss_weight=1.0),
        small_instance_area=4096,
        small_instance_weight=3.0,
        **decoder,
    ),
    # -> centre heatmap (N, 1, H/4, W/4), offsets dy, dx (N, 2, H/4, W/4)
    instance_head=dict(
        type="CenterOffsetHead",
        channels=128,
        head_channels=32,
        sigma=10.0,
        **decoder,
    ),
    # -> index map (H, W) at the size of the original image, and its segments
    fusion_head=dict(
        type="CenterGroupingHead",
        num_classes="$num_classes",
        thing_labels="$thing_labels",
        stride=4,
        stuff_area=2048,
        threshold=0.1,
        nms_kernel=7,
        top_k=200,
    ),
)
