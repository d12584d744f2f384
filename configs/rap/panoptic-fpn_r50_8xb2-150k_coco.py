"""Panoptic FPN, ResNet-50, COCO, 150k iterations at batch 16.

Paper: Panoptic Feature Pyramid Networks, CVPR 2019, https://arxiv.org/abs/1901.02446
Reproduces: RAP's e2e_panoptic_rcnn_R_50_FPN_1x
Published: PQ 40.0, SQ 78.0, RQ 49.1, PQ_th 46.2, PQ_st 30.5 (val2017, single scale)
Measured: not yet
Hardware: 8 GPUs of 24 GB (published: 8 P40)
Command: tools/dist_train.sh configs/rap/panoptic-fpn_r50_8xb2-150k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_step_150k.py",
    "../_base_/default_runtime.py",
    "./panoptic-fpn.py",
]

model = dict(
    backbone=dict(
        init_cfg=dict(type="Pretrained", checkpoint="mmpanoptic://imagenet/resnet50-caffe")
    )
)
