# EfficientNet-Lite0 with ImageNet weights: 17 MB, which come in a package (docs/weights.md). A model's file
# says `backbone={{_base_.lite0}}`, `data_preprocessor={{_base_.lite0_pixels}}`.
lite0_pixels = dict(
    mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), bgr_to_rgb=True, pad_size_divisor=32
)
# -> (N, 24, H/4, W/4), (N, 40, H/8, W/8), (N, 112, H/16, W/16), (N, 1280, H/32, W/32)
lite0 = dict(
    _delete_=True,
    type="LeakyEfficientNet",
    arch="b0",
    stage0_act=False,
    act_cfg=dict(type="ReLU6"),
    out_indices=(2, 3, 4, 6),
    init_cfg=dict(type="Pretrained", checkpoint="mmpanoptic://imagenet/efficientnet-lite0"),
)
