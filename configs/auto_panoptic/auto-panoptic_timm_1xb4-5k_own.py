"""Auto-Panoptic's found heads on your own data, with a pretrained backbone of timm.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119
Reproduces: nothing published; any model of timm in the place of the backbone, by its name
Published: -
Measured: not yet
Hardware: 1 GPU of 8 GB; small data on CPU cores, too
Command: python tools/train.py configs/auto_panoptic/auto-panoptic_timm_1xb4-5k_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/validated_runtime.py",
    "./auto-panoptic.py",
]

# `timm.list_pretrained()` has more; --cfg-options model_name=... takes another one.
model_name = "regnety_032.ra_in1k"
max_iters = 5000
checkpoint_interval = 1000
val_interval = "$max_iters*1/5"
warmup_iters = 200
base_lr = 2e-4
auto_scale_lr = dict(base_batch_size=4)
with_instances = True
model = dict(
    data_preprocessor=dict(
        mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), bgr_to_rgb=True
    ),
    backbone=dict(_delete_=True, type="TIMMBackbone", model_name="$model_name", pretrained=True),
    neck=dict(in_channels="$feature_channels"),
    # what was found on COCO, see auto-panoptic_coco-3.8g_8xb2-90k_coco.py
    roi_head=dict(mask_head=dict(choices=[4, 1, 2, 3])),
    semantic_head=dict(choices=[2, 3, 0]),
    f2b=dict(choices=[2, 0, 0, 0]),
    b2f=dict(choices=[1, 1, 1, 2, 0]),
    fusion_head=dict(stuff_area=256),
)
