# The model of COPS, published R-52 form for Cityscapes, first stage; N images of size (H, W), C classes.
norm_cfg = dict(type="SyncBN")  # becomes BN where there is one process or no GPU
decoder = dict(
    in_channels=(256, 512, 2048),
    in_strides=(4, 8, 16),
    project_channels=(32, 64),
    channels=256,
    aspp_channels=256,
    aspp_dilations=(6, 12, 18),
    aspp_dropout=0.1,
    pool_crop_size=None,  # published: the training crop; None pools globally, for images of any size
    separable=True,
    head_channels=256,
    norm_cfg=norm_cfg,
)
model = dict(
    type="COPS",
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
    # -> class logits (N, C, H/4, W/4)
    semantic_head=dict(
        type="DeepLabHead",
        num_classes="$num_classes",
        head_separable=False,
        loss=dict(type="HardPixelMiningLoss", top_k=0.2, loss_weight=1.0),
        small_instance_area=4096,
        small_instance_weight=3.0,
        small_crowds=False,
        **decoder,
    ),
    # features and class logits -> boundary logits (N, 2, H/4, W/4) of each distance, costs
    instance_head=dict(
        type="AffinityHead",
        num_classes="$num_classes",
        distances=(1, 4, 16, 32, 64),
        near_channels=(64, 32),
        far_channels=(128, 64),
        learn_costs=False,
        cost_dropout=0.1,
        loss=dict(type="HardEdgeMiningLoss", top_k=0.25, loss_weight=0.25),
        instance_weight=4.0,
        small_instance_area=4096,
        small_instance_weight=3.0,
        **decoder,
    ),
    # costs -> labels and components (H/4, W/4) -> index map (H, W) of the original image, segments
    fusion_head=dict(
        type="MulticutHead",
        num_classes="$num_classes",
        thing_labels="$thing_labels",
        distances=(1, 4, 16, 32, 64),
        stride=4,
        stuff_area=2048,
        instance_area=200,
        ignore_area=12,
        solver=dict(mode="revalidate"),
    ),
)
