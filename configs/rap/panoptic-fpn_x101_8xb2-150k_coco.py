"""Panoptic FPN, ResNeXt-101-32x8d, COCO, 150k iterations at batch 16.

Paper: Panoptic Feature Pyramid Networks, CVPR 2019, https://arxiv.org/abs/1901.02446
Reproduces: RAP's e2e_panoptic_rcnn_X_101_32x8d_FPN_1x
Published: PQ 43.4, SQ 79.1, RQ 53.0, PQ_th 50.1, PQ_st 33.2 (val2017, single scale)
Measured: not yet
Hardware: 8 GPUs of 24 GB (published: 8 P40)
Command: tools/dist_train.sh configs/rap/panoptic-fpn_x101_8xb2-150k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_step_150k.py",
    "../_base_/default_runtime.py",
    "./panoptic-fpn_x101.py",
]

load_from = "mmpanoptic://imagenet/resnext101-32x8d-detectron"  # None: random weights
