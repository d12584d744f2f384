"""Panoptic-DeepLab on your own data, with a pretrained backbone of timm.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: nothing published; any model of timm in the place of the backbone, by its name
Published: -
Measured: not yet
Hardware: 1 GPU of 8 GB; small data on CPU cores, too
Command: python tools/train.py configs/panoptic_deeplab/panoptic-deeplab_timm_1xb4-5k_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/validated_runtime.py",
    "./panoptic-deeplab.py",
]

# `timm.list_pretrained()` has more; --cfg-options model_name=... takes another one.
model_name = "resnet50.a1_in1k"
max_iters = 5000
checkpoint_interval = 1000
val_interval = "$max_iters*1/5"
warmup_iters = 200
base_lr = 2e-4
auto_scale_lr = dict(base_batch_size=4)
decoder = dict(
    in_channels="$feature_channels",
    in_strides="$feature_strides",
    pool_crop_size=None,  # the image pooling is global
    separable=True,
)
model = dict(
    data_preprocessor=dict(pad_size_divisor=16),
    backbone=dict(
        _delete_=True,
        type="TIMMBackbone",
        model_name="$model_name",
        pretrained=True,
        out_strides=(4, 8, 16),
        output_stride=16,  # dilates the last stage
    ),
    semantic_head=dict(small_instance_area="$size_small_area", **decoder),
    instance_head=dict(sigma="$size_sigma", **decoder),
    fusion_head=dict(
        stuff_area="$size_stuff_area", nms_kernel="$size_nms_kernel", top_k="$size_top_k"
    ),
)
