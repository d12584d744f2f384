"""EfficientPS (Mask R-CNN) with narrow heads on your own data, from EfficientNet-Lite0's ImageNet weights.

Paper: EfficientPS, IJCV 2021, https://arxiv.org/abs/2004.02307
Reproduces: nothing published; classes are read from your annotation file
Published: -
Measured: PQ 2.2 (things 0.0, stuff 4.0) after 120 iterations on 100 photographs, docs/real_data.md
Hardware: 2 CPU cores, or any GPU
Command: python tools/train.py configs/efficientps/efficientps-maskrcnn_lite0_1xb4-5k_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly_own.py",
    "../_base_/validated_runtime.py",
    "../_base_/backbones/efficientnet_lite0.py",
    "./efficientps-maskrcnn.py",
]

with_instances = True
model = dict(
    channels_last=True,
    data_preprocessor={{_base_.lite0_pixels}},
    backbone={{_base_.lite0}},
    neck=dict(in_channels=(24, 40, 112, 1280), out_channels=64),
    # every pixel counts in a short run
    semantic_head=dict(in_channels=64, channels=64, loss=dict(top_k=1.0)),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[4, 8]),  # sides of 16 to 256 pixels
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64),
    ),
    fusion_head=dict(stuff_area="$size_stuff_area"),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=300, max_per_img=300),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=300)),
)
