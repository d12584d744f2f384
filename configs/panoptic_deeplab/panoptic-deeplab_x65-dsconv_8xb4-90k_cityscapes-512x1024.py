"""Panoptic-DeepLab, Xception-65, depthwise-separable convolutions, Cityscapes, 90k iterations at batch 32.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: bowenc0221's panoptic_deeplab_X_65_os16_mg124_poly_90k_bs32_crop_512_1024_dsconv
Published: PQ 61.4, SQ 81.4, RQ 74.3, mIoU 79.8, AP 32.6 (Cityscapes val, single scale)
Measured: not yet
Hardware: 8 GPUs
Command: tools/dist_train.sh configs/panoptic_deeplab/panoptic-deeplab_x65-dsconv_8xb4-90k_cityscapes-512x1024.py 8
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/default_runtime.py",
    "./panoptic-deeplab_x65.py",
]

load_from = "mmpanoptic://imagenet/xception65"  # None: random weights

model = dict(semantic_head=dict(separable=True), instance_head=dict(separable=True))
