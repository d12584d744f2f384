"""Panoptic FPN, deformable ResNeXt-152-32x8d, COCO, 150k iterations at batch 16.

Paper: Panoptic Feature Pyramid Networks, CVPR 2019, https://arxiv.org/abs/1901.02446
Reproduces: RAP's e2e_panoptic_rcnn_X_152_32x8d_dcn_FPN_1x
Published: PQ 47.0, SQ 81.0, RQ 56.9, PQ_th 53.4, PQ_st 37.4 (val2017, single scale)
Measured: not yet
Hardware: 8 GPUs of 24 GB (published: 8 P40)
Command: tools/dist_train.sh configs/rap/panoptic-fpn_x152-dcn_8xb2-150k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_step_150k.py",
    "../_base_/default_runtime.py",
    "./panoptic-fpn_x152-dcn.py",
]

load_from = "mmpanoptic://rap/mask-rcnn-x152-detectron_coco"  # trained on COCO, as published
