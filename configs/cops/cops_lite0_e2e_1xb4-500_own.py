"""COPS with narrow decoders on your own data, second stage: panoptic quality through the solver.

Paper: Combinatorial Optimization for Panoptic Segmentation, NeurIPS 2021, https://arxiv.org/abs/2106.03188
Reproduces: nothing published; goes on from the first stage, cops_lite0_pretrain_1xb4-5k_own.py
Published: -
Measured: PQ 1.5 (things 0.3, stuff 2.5) after 20 iterations on 100 photographs, docs/real_data.md
Hardware: 2 CPU cores, or any GPU
Command: python tools/train.py configs/cops/cops_lite0_e2e_1xb4-500_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/validated_runtime.py",
    "./cops_lite0.py",
]

load_from = "work_dirs/cops_lite0_pretrain_1xb4-5k_own/iter_5000.pth"

max_iters = 500
checkpoint_interval = 250
val_interval = "$max_iters*1/5"
warmup_iters = 20
base_lr = 5e-4
auto_scale_lr = dict(base_batch_size=4)
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
        stuff_area="$size_stuff_area",
        instance_area=256,
        ignore_area=12,
    ),
)
