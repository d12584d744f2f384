"""COPS with a thin ResNet-18 on the generated dataset, second stage: panoptic quality through the solver.

Paper: Combinatorial Optimization for Panoptic Segmentation, NeurIPS 2021, https://arxiv.org/abs/2106.03188
Reproduces: nothing published; shows what training through the solver adds to the first stage
Published: -
Measured: see configs/cops/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/cops/cops_r18-tiny_e2e_1xb8-200_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./cops_r18-tiny.py",
]

load_from = "work_dirs/cops_r18-tiny_pretrain_1xb8-600_shapes/iter_600.pth"

max_iters = 200
val_interval = 50
warmup_iters = 20
base_lr = 2e-3
# Each part further from the costs learns more slowly.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            "semantic_head.head.": dict(lr_mult=1 / 4),
            "instance_head.head.": dict(lr_mult=1 / 6),
            ".hidden.": dict(lr_mult=1 / 4),
            ".predictor.": dict(lr_mult=1 / 2),
        }
    )
)
model = dict(
    frozen=("backbone", "semantic_head.decoder", "instance_head.decoder"),
    frozen_norm=True,
    semantic_head=dict(loss=dict(loss_weight=0.0)),
    instance_head=dict(
        learn_costs=True,
        loss=dict(loss_weight=0.0),
        instance_weight=1.0,
        small_instance_weight=1.0,
    ),
    multicut_loss=dict(
        type="MulticutLoss",
        num_classes="$num_classes",
        thing_labels="$thing_labels",
        distances=(1, 4, 8, 16),
        loss_weight=10.0,
        step_range=(1.0, 5000.0),
        num_steps=5,
        stuff_area=64,
        instance_area=32,
        ignore_area=12,
    ),
)
