"""Stage 2 in miniature: the supernet on the generated dataset with fair paths.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119
Reproduces: nothing published; shows within minutes that the whole chain learns
Published: -
Measured: see configs/auto_panoptic/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/auto_panoptic/auto-panoptic_tiny-supernet_1xb4-300_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/default_runtime.py",
    "./auto-panoptic_tiny.py",
]

# From stage 1; None trains from random weights.
load_from = "work_dirs/auto-panoptic_tiny-supernet_1xb32-120_shapes-crops/iter_120.pth"

with_instances = True
batch_size = 4
max_iters = 300
warmup_iters = 30
checkpoint_interval = 150
auto_scale_lr = dict(base_batch_size=4, accumulative_counts="$window")
window = 3  # paths per step: every decision has three choices
optim_wrapper = dict(
    constructor="SupernetOptimWrapperConstructor",
    accumulative_counts="$window",
    paramwise_cfg=dict(bias_lr_mult=1.0),
)
train_cfg = dict(val_begin="$max_iters+1")  # a supernet has no path to validate
custom_hooks = [
    dict(type="NonFiniteLossHook"),
    dict(type="StopSignalHook"),
    dict(type="DataErrorSummaryHook"),
    dict(type="SupernetPathHook", space="$search_space", sampler="fair"),
]
