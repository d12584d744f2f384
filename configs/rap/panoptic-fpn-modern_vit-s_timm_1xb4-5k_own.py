"""Panoptic FPN on your own data with DINOv2's ViT-S of timm and a simple feature pyramid.

Paper: Exploring Plain Vision Transformer Backbones for Object Detection, ECCV 2022, https://arxiv.org/abs/2203.16527
Reproduces: nothing published; the backbone of EoMT in a system of convolutions
Published: -
Measured: not yet
Hardware: 1 GPU of 12 GB
Command: python tools/train.py configs/rap/panoptic-fpn-modern_vit-s_timm_1xb4-5k_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/validated_runtime.py",
    "./panoptic-fpn-modern.py",
]

# vit_base_patch14_reg4_dinov2.lvd142m and vit_large_... fit, too; timm's weights are Apache-2.0.
model_name = "vit_small_patch14_reg4_dinov2.lvd142m"
max_iters = 5000
checkpoint_interval = 1000
val_interval = "$max_iters*1/5"
warmup_iters = 200
base_lr = 1e-4
auto_scale_lr = dict(base_batch_size=4)
with_instances = True
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.1)}))
model = dict(
    data_preprocessor=dict(
        mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), bgr_to_rgb=True
    ),
    # Patches of 16 pixels, to which timm resamples those of 14, give a map of stride 16.
    backbone=dict(
        _delete_=True,
        type="TIMMBackbone",
        model_name="$model_name",
        pretrained=True,
        out_strides=(16,),
        patch_size=16,
        dynamic_img_size=True,
    ),
    neck=dict(
        _delete_=True,
        type="SimpleFeaturePyramid",
        in_channels="$feature_channels",
        out_channels=256,
        num_outs=5,
    ),
    fusion_head=dict(stuff_area=256),
)
