"""EfficientPS with SOLOv2 on your own data, with a pretrained backbone of timm.

Paper: EfficientPS, IJCV 2021, https://arxiv.org/abs/2004.02307;
    SOLOv2, NeurIPS 2020, https://arxiv.org/abs/2003.10152
Reproduces: nothing published; any model of timm in the place of the backbone, by its name
Published: -
Measured: not yet
Hardware: 1 GPU of 8 GB; small data on CPU cores, too
Command: python tools/train.py configs/efficientps/efficientps-solov2_timm_1xb4-5k_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/validated_runtime.py",
    "./efficientps-solov2.py",
]

# `timm.list_pretrained()` has more; --cfg-options model_name=... takes another one.
model_name = "tf_efficientnet_b5.ra_in1k"
max_iters = 5000
checkpoint_interval = 1000
val_interval = "$max_iters*1/5"
warmup_iters = 200
base_lr = 2e-4
auto_scale_lr = dict(base_batch_size=4)
with_instances = True
model = dict(
    data_preprocessor=dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    # with squeeze-and-excitation, which LeakyEfficientNet has not
    backbone=dict(_delete_=True, type="TIMMBackbone", model_name="$model_name", pretrained=True),
    neck=dict(in_channels="$feature_channels"),
    # half of the published ones, as are the images
    instance_head=dict(scale_ranges=((1, 48), (24, 96), (48, 192), (96, 384), (192, 1024))),
    fusion_head=dict(fusion=dict(stuff_area=256)),
)
