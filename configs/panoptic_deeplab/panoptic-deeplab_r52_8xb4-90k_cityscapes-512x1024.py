"""Panoptic-DeepLab, ResNet-52, regular convolutions, Cityscapes, 90k iterations at batch 32.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: detectron2's panoptic_deeplab_R_52_os16_mg124_poly_90k_bs32_crop_512_1024
Published: PQ 60.3, SQ 81.5, RQ 72.9, mIoU 78.2, AP 33.2 (Cityscapes val, single scale)
Measured: not yet
Hardware: 8 GPUs; the original reports 9 to 11 GB each
Command: tools/dist_train.sh configs/panoptic_deeplab/panoptic-deeplab_r52_8xb4-90k_cityscapes-512x1024.py 8
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/default_runtime.py",
    "./panoptic-deeplab.py",
]

load_from = "mmpanoptic://imagenet/resnet52-deeplab"  # None: random weights
