"""COPS, ResNet-52, Cityscapes, second stage: panoptic quality through the solver, 20k iterations.

Paper: Combinatorial Optimization for Panoptic Segmentation, NeurIPS 2021, https://arxiv.org/abs/2106.03188
Reproduces: COPS's Cityscapes-PanopticSegmentation/panoptic_affinity_fully_differentiable
Published: PQ 62.1, PQ_st 67.2, PQ_th 55.1, mIoU 79.3, AP 34.1 (Cityscapes val; the authors test iteration 3000)
Measured: not yet
Hardware: 1 GPU
Command: python tools/train.py configs/cops/cops_r52_e2e_1xb24-20k_cityscapes-512x1024.py
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/default_runtime.py",
    "./cops.py",
]

load_from = "work_dirs/cops_r52_pretrain_1xb12-50k_cityscapes-512x1024/iter_50000.pth"

batch_size = 24
max_iters = 20000
warmup_iters = 500
base_lr = 1e-3
checkpoint_interval = 500
auto_scale_lr = dict(base_batch_size=24)
eval_batch_size = 4

# The scalings of the costs have the full rate; 20 times less per stage away from them.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            ".predictor.": dict(lr_mult=1 / 20),
            ".hidden.": dict(lr_mult=1 / 40),
            "semantic_head.head.": dict(lr_mult=1 / 40),
            "instance_head.head.": dict(lr_mult=1 / 60),
        }
    )
)
model = dict(
    frozen=("backbone", "semantic_head.decoder", "instance_head.decoder"),
    frozen_norm=True,
    semantic_head=dict(loss=dict(loss_weight=0.0), small_instance_weight=1.0),
    instance_head=dict(
        learn_costs=True,
        loss=dict(loss_weight=0.0),
        instance_weight=1.0,
        small_instance_weight=1.0,
    ),
    # costs and targets -> 1 - panoptic quality, with a gradient at the costs
    multicut_loss=dict(
        type="MulticutLoss",
        num_classes="$num_classes",
        thing_labels="$thing_labels",
        distances=(1, 4, 16, 32, 64),
        loss_weight=10.0,
        step_range=(1.0, 5000.0),
        num_steps=5,
        stuff_area=2048,
        instance_area=200,
        stuff_area_downsampling=4,
        ignore_area=12,
    ),
)
