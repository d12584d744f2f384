"""Panoptic FPN, ResNet-101, COCO, 150k iterations at batch 16.

Paper: Panoptic Feature Pyramid Networks, CVPR 2019, https://arxiv.org/abs/1901.02446
Reproduces: RAP's e2e_panoptic_rcnn_R_101_FPN_1x
Published: PQ 41.4, SQ 79.5, RQ 50.7, PQ_th 47.8, PQ_st 31.7 (val2017, single scale)
Measured: not yet
Hardware: 8 GPUs of 24 GB (published: 8 P40)
Command: tools/dist_train.sh configs/rap/panoptic-fpn_r101_8xb2-150k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_step_150k.py",
    "../_base_/default_runtime.py",
    "./panoptic-fpn_r101.py",
]

model = dict(
    backbone=dict(
        init_cfg=dict(type="Pretrained", checkpoint="mmpanoptic://imagenet/resnet101-caffe")
    )
)
