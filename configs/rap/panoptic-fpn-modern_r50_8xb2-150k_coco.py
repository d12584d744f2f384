"""Panoptic FPN, ResNet-50, COCO, 150k iterations at batch 16, with the conventions of mmdet.

Paper: Panoptic Feature Pyramid Networks, CVPR 2019, https://arxiv.org/abs/1901.02446
Reproduces: nothing published; the choice for new trainings
Published: -
Measured: not yet
Hardware: 8 GPUs of 24 GB
Command: tools/dist_train.sh configs/rap/panoptic-fpn-modern_r50_8xb2-150k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_step_150k.py",
    "../_base_/default_runtime.py",
    "./panoptic-fpn-modern.py",
]

model = dict(
    backbone=dict(
        init_cfg=dict(type="Pretrained", checkpoint="mmpanoptic://imagenet/resnet50-caffe")
    )
)
