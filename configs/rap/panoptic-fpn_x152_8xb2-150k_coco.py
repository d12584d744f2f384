"""Panoptic FPN, ResNeXt-152-32x8d, COCO, 150k iterations at batch 16.

Paper: Panoptic Feature Pyramid Networks, CVPR 2019, https://arxiv.org/abs/1901.02446
Reproduces: RAP's e2e_panoptic_rcnn_X_152_32x8d_FPN_1x
Published: PQ 44.6, SQ 79.6, RQ 54.2, PQ_th 51.7, PQ_st 33.8 (val2017, single scale)
Measured: not yet
Hardware: 8 GPUs of 24 GB (published: 8 P40)
Command: tools/dist_train.sh configs/rap/panoptic-fpn_x152_8xb2-150k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_step_150k.py",
    "../_base_/default_runtime.py",
    "./panoptic-fpn_x152.py",
]

load_from = "mmpanoptic://rap/mask-rcnn-x152-detectron_coco"  # trained on COCO, as published
