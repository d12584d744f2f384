"""Panoptic FPN, ResNet-50 as PyTorch trains it, COCO, 90k iterations at batch 16, as in mmdet.

Paper: Panoptic Feature Pyramid Networks, CVPR 2019, https://arxiv.org/abs/1901.02446
Reproduces: panoptic_fpn_r50_fpn_1x_coco of mmdetection 3.3.0
Published: PQ 40.2 (val2017, single scale; weights mmpanoptic://panoptic-fpn/mmdet-r50-1x_coco)
Measured: not yet
Hardware: 8 GPUs of 24 GB
Command: tools/dist_train.sh configs/rap/panoptic-fpn-modern_r50-pytorch_8xb2-90k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_step_150k.py",
    "../_base_/default_runtime.py",
    "./panoptic-fpn-modern.py",
]

max_iters = 90000
milestones = ["$max_iters*8/12", "$max_iters*11/12"]
optim_wrapper = dict(paramwise_cfg=None)
model = dict(
    data_preprocessor=dict(
        mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), bgr_to_rgb=True
    ),
    backbone=dict(
        style="pytorch",
        norm_cfg=dict(requires_grad=True),
        init_cfg=dict(type="Pretrained", checkpoint="mmpanoptic://imagenet/resnet50"),
    ),
    # The published figure is with one suppression for all classes and a higher score.
    test_cfg=dict(rcnn=dict(nms=dict(class_agnostic=True))),
    fusion_head=dict(score_thr=0.6),
)
