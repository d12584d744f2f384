"""Panoptic FPN on the backbone that DetNAS found for COCO with FPN, "1.3G".

Paper: DetNAS, NeurIPS 2019, https://arxiv.org/abs/1903.10979
Reproduces: the backbone; DetNAS trains a detector without a semantic branch on it
Published: top-1 error 22.8 (ImageNet), box AP 40.3 (of DetNAS's detector, COCO val2017)
Measured: not yet
Hardware: 8 GPUs
Command: tools/dist_train.sh configs/auto_panoptic/panoptic-fpn_detnas-1.3g_8xb2-90k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "../rap/panoptic-fpn.py",
]

load_from = "mmpanoptic://imagenet/detnas-1.3g"  # None: random weights
warmup_iters, warmup_factor = 501, 0.1  # the full rate from iteration 500 on

model = dict(
    fusion_head=dict(predict_instances=True),  # for box and mask AP
    backbone=dict(
        _delete_=True,
        type="ShuffleNetV2Plus",
        widths=(48, 96, 240, 480, 960),
        depths=(8, 8, 16, 8),
        # 0..2: ShuffleNet 3x3, 5x5, 7x7; 3: Xception
        choices=[
            *(0, 0, 3, 1, 2, 1, 0, 2),
            *(0, 3, 1, 2, 3, 3, 2, 0),
            *(2, 1, 1, 3, 2, 0, 2, 2, 2, 1, 3, 1, 0, 3, 3, 3),
            *(1, 3, 3, 3, 3, 3, 3, 3),
        ],
        norm_cfg=dict(type="SyncBN", momentum=0.01),
    ),
    neck=dict(in_channels=[96, 240, 480, 960]),
)
