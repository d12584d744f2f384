# EfficientNet-Lite0 with narrow decoders, for images of about 512 pixels.
_base_ = ["../_base_/backbones/efficientnet_lite0.py", "./cops.py"]

distances = (1, 4, 8, 16)
decoder = dict(
    in_channels=(24, 40, 112, 1280),
    in_strides=(4, 8, 16, 32),
    project_channels=(16, 32, 32),
    channels=64,
    aspp_channels=64,
    aspp_dilations=(1, 2, 3),  # half of those at stride 16
    aspp_dropout=0.0,
    head_channels=64,
)
model = dict(
    channels_last=True,
    data_preprocessor={{_base_.lite0_pixels}},
    backbone={{_base_.lite0}},
    # every pixel counts in a short run
    semantic_head=dict(loss=dict(top_k=1.0), **decoder),
    instance_head=dict(
        distances=distances, near_channels=(32, 16), far_channels=(64, 32), **decoder
    ),
    fusion_head=dict(distances=distances, stuff_area="$size_stuff_area", instance_area=256),
)
