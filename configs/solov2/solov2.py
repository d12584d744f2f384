# The model of SOLOv2, published R-50 form; N images of size (H, W), T things, 3872 cells of five
# grids. The light form is solov2-light.py.
num_grids = (40, 36, 24, 16, 12)
strides = (8, 8, 16, 32, 32)
model = dict(
    type="PanopticSegmentor",
    # uint8 BGR -> normalised RGB (N, 3, H, W), padded to a multiple of 32
    data_preprocessor=dict(
        type="PanopticDataPreprocessor",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    # -> (N, 256, H/4, W/4), (N, 512, H/8, W/8), (N, 1024, H/16, W/16), (N, 2048, H/32, W/32)
    backbone=dict(
        type="mmdet.ResNet",
        depth=50,
        style="pytorch",
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=True,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="mmpanoptic://imagenet/resnet50",
        ),
    ),
    # -> (N, 256, H/4, W/4) to (N, 256, H/64, W/64)
    neck=dict(
        type="mmdet.FPN",
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        start_level=0,
        num_outs=5,
    ),
    # -> category logits (N, T, 3872), kernels (N, 256, 3872), mask features (N, 256, H/4, W/4)
    instance_head=dict(
        type="SOLOv2Head",
        num_classes="$num_things",
        thing_labels="$thing_labels",
        in_channels=256,
        feat_channels=512,
        stacked_convs=4,
        mask_channels=128,
        kernel_channels=256,
        num_grids="$num_grids",
        strides="$strides",
        scale_ranges=((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
        pos_scale=0.2,
        avg="pairs",
    ),
    # -> at most 100 instances with masks (K, H, W)
    fusion_head=dict(
        type="SOLOv2FusionHead",
        thing_labels="$thing_labels",
        num_grids="$num_grids",
        strides="$strides",
        score_thr=0.1,
        mask_thr=0.5,
        nms_pre=500,
        filter_thr=0.05,
        max_per_img=100,
        kernel="gaussian",
        sigma=2.0,
    ),
)
