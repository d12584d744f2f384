"""Panoptic-DeepLab, HRNet-W48, depthwise-separable convolutions, Cityscapes, 90k iterations at batch 32.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: bowenc0221's panoptic_deeplab_H_48_os16_mg124_poly_90k_bs32_crop_512_1024_dsconv
Published: PQ 63.4, SQ 81.9, RQ 76.4, mIoU 80.6, AP 36.2 (Cityscapes val, single scale)
Measured: not yet
Hardware: 8 GPUs
Command: tools/dist_train.sh configs/panoptic_deeplab/panoptic-deeplab_h48-dsconv_8xb4-90k_cityscapes-512x1024.py 8
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/default_runtime.py",
    "./panoptic-deeplab_h48.py",
]

load_from = "mmpanoptic://imagenet/hrnet-w48"  # None: random weights

model = dict(semantic_head=dict(separable=True), instance_head=dict(separable=True))
