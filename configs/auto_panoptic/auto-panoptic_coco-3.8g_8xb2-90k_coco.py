"""Auto-Panoptic, the network found on COCO, 90k iterations at batch 16: the published model.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119
Reproduces: scripts/train_searched_model.sh of Jacobew/AutoPanoptic (COCO_3.8G)
Published: PQ 44.8, PQ_th 51.4, PQ_st 35.0 (COCO val2017)
Measured: not yet
Hardware: 8 GPUs
Command: tools/dist_train.sh configs/auto_panoptic/auto-panoptic_coco-3.8g_8xb2-90k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./auto-panoptic_3.8g.py",
]

# Or stage 3: work_dirs/auto-panoptic_coco-3.8g_8xb64-600k_imagenet/iter_600000.pth; None: random weights
load_from = "mmpanoptic://imagenet/auto-panoptic-coco-3.8g"
warmup_iters, warmup_factor = 501, 0.1  # the full rate from iteration 500 on
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={".bias": dict(lr_mult=2.0, decay_mult=0.0)}))

model = dict(
    fusion_head=dict(predict_instances=True),  # for box and mask AP
    # 0..2: ShuffleNet 3x3, 5x5, 7x7; 3: Xception
    backbone=dict(
        choices=[
            *(3, 2, 0, 2, 1, 3, 2, 0),
            *(1, 3, 1, 3, 3, 0, 0, 1),
            *(0, 0, 1, 0, 2, 3, 2, 2, 1, 0, 1, 3, 1, 2, 2, 1),
            *(1, 2, 0, 2, 0, 2, 3, 0),
        ]
    ),
    # 0, 1: DWConv 3x3, 5x5; 2, 3: DFConv 3x3, 5x5; 4, 5: ATConv 3x3, 5x5
    roi_head=dict(mask_head=dict(choices=[4, 1, 2, 3])),
    semantic_head=dict(choices=[2, 3, 0]),
    # 0: r4, 1: r8, 2: r16
    f2b=dict(choices=[2, 0, 0, 0]),
    b2f=dict(choices=[1, 1, 1, 2, 0]),
)
