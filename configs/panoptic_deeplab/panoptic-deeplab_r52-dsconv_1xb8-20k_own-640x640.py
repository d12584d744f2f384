"""Panoptic-DeepLab, ResNet-52, depthwise-separable convolutions, on your own data.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: nothing published; the published COCO model with classes read from your annotation file
Published: -
Measured: not yet
Hardware: one GPU of 16 GB
Command: python tools/train.py configs/panoptic_deeplab/panoptic-deeplab_r52-dsconv_1xb8-20k_own-640x640.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/validated_runtime.py",
    "./panoptic-deeplab.py",
]

# What depends on the classes starts anew; None: random weights
load_from = "mmpanoptic://panoptic-deeplab/r52-dsconv_coco"
max_iters = 20000
val_interval = "$max_iters*1/5"
base_lr = 2.5e-4
batch_size = 8
auto_scale_lr = dict(base_batch_size=8)
crop_size = (640, 640)
short_edge = 640
heads = dict(separable=True, pool_crop_size=(640, 640))

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    semantic_head=dict(small_instance_area="$size_small_area", loss=dict(top_k=1.0), **heads),
    instance_head=dict(sigma="$size_sigma", **heads),
    fusion_head=dict(
        stuff_area="$size_stuff_area", nms_kernel="$size_nms_kernel", top_k="$size_top_k"
    ),
)
