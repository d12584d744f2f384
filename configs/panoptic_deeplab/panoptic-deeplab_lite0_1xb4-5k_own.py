"""Panoptic-DeepLab with narrow decoders on your own data, from EfficientNet-Lite0's ImageNet weights.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: nothing published; classes are read from your annotation file
Published: -
Measured: not yet
Hardware: 2 CPU cores, or any GPU
Command: python tools/train.py configs/panoptic_deeplab/panoptic-deeplab_lite0_1xb4-5k_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/default_runtime.py",
    "./panoptic-deeplab_r18-tiny.py",
]

max_iters = 5000
checkpoint_interval = 1000
warmup_iters = 50
base_lr = 1e-3
auto_scale_lr = dict(base_batch_size=4)

decoder = dict(
    in_channels="$feature_channels",
    in_strides="$feature_strides",
    aspp_dilations=(1, 2, 3),  # half of those at stride 16
)
model = dict(
    data_preprocessor=dict(
        mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), pad_size_divisor=32
    ),
    # 17 MB, which come in a package: docs/weights.md. None: random weights
    backbone=dict(
        _delete_=True,
        type="LeakyEfficientNet",
        arch="b0",
        stage0_act=False,
        act_cfg=dict(type="ReLU6"),
        out_indices=(2, 3, 6),
        init_cfg=dict(type="Pretrained", checkpoint="mmpanoptic://imagenet/efficientnet-lite0"),
    ),
    semantic_head=dict(
        small_instance_area="$size_small_area", small_instance_weight=3.0, **decoder
    ),
    instance_head=dict(sigma="$size_sigma", **decoder),
    fusion_head=dict(
        stuff_area="$size_stuff_area", nms_kernel="$size_nms_kernel", top_k="$size_top_k"
    ),
)
