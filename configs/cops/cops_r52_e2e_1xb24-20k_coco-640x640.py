"""COPS, ResNet-52, COCO, second stage: panoptic quality through the solver, 20k iterations.

Paper: Combinatorial Optimization for Panoptic Segmentation, NeurIPS 2021, https://arxiv.org/abs/2106.03188
Reproduces: COPS's COCO-PanopticSegmentation/panoptic_affinity_fully_differentiable
Published: PQ 38.4, PQ_st 35.2, PQ_th 40.5 (val2017; the authors test iteration 10000)
Measured: not yet
Hardware: 1 GPU
Command: python tools/train.py configs/cops/cops_r52_e2e_1xb24-20k_coco-640x640.py
"""

_base_ = [
    "../_base_/datasets/coco_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/default_runtime.py",
    "./cops.py",
]

load_from = "work_dirs/cops_r52_pretrain_4xb12-50k_coco-640x640/iter_50000.pth"

train_short_edge = [448, 512, 576, 640, 704, 768]
batch_size = 24
max_iters = 20000
warmup_iters = 500
base_lr = 1e-4
val_interval = 1000
checkpoint_interval = 500
auto_scale_lr = dict(base_batch_size=24)
eval_batch_size = 4
randomness = dict(seed=17867965)  # the published one

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
distances = (1, 4, 16, 32)
model = dict(
    data_preprocessor=dict(pad_size_divisor=640),
    frozen=("backbone", "semantic_head.decoder", "instance_head.decoder"),
    frozen_norm=True,
    semantic_head=dict(loss=dict(top_k=1.0, loss_weight=0.0), small_instance_weight=1.0),
    instance_head=dict(
        distances=distances,
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
        distances=distances,
        loss_weight=100.0,
        step_range=(1000.0, 5000.0),
        num_steps=5,
        stuff_area=4096,
        instance_area=200,
        stuff_area_downsampling=4,
        ignore_area=12,
    ),
    fusion_head=dict(distances=distances, stuff_area=4096),
)
