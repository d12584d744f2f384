# A thin ResNet-18 with narrow decoders: learns in minutes on two CPU cores.
_base_ = "./panoptic-deeplab.py"

decoder = dict(
    in_channels=(32, 64, 256),
    project_channels=(16, 32),
    aspp_dilations=(2, 4, 6),
    aspp_dropout=0.0,
    pool_crop_size=None,  # the image pooling is global
    separable=True,
)
model = dict(
    data_preprocessor=dict(pad_size_divisor=16),
    backbone=dict(depth=18, base_width=32, stem_channels=32, multi_grid=None),
    # Every pixel counts and those of things four times: with hard pixel mining a short run learns
    # the things of `shapes` but not its textures.
    semantic_head=dict(
        channels=64,
        aspp_channels=64,
        head_channels=64,
        small_instance_area=4096,
        small_instance_weight=4.0,
        loss=dict(top_k=1.0),
        **decoder,
    ),
    instance_head=dict(channels=32, aspp_channels=32, head_channels=32, sigma=4.0, **decoder),
    fusion_head=dict(stuff_area=64),
)
