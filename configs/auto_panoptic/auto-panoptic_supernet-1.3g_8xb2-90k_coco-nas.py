"""Stage 2: fine-tune the supernet on COCO with fair paths, from the supernet of stage 1.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119
Reproduces: the training in `scripts/architecture_search.sh` of the published code, with its learning
    rates; windows of 12 paths begin with the optimizer's steps (published: one iteration late)
Published: -
Measured: -
Hardware: 8 GPUs
Command: tools/dist_train.sh configs/auto_panoptic/auto-panoptic_supernet-1.3g_8xb2-90k_coco-nas.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/default_runtime.py",
    "./auto-panoptic.py",
]

# Stage 1, or the published one: mmpanoptic://imagenet/auto-panoptic-supernet-1.3g; None: random weights
load_from = "work_dirs/auto-panoptic_supernet-1.3g_8xb128-300k_imagenet/iter_300000.pth"

# tools/dataset_converters/coco_nas_split.py makes the files.
train_ann_file = "nas/panoptic_nas_train2017.json"
train_instances = "nas/instances_nas_train2017.json"
val_ann_file = "nas/panoptic_nas_val2017.json"
val_instances = "nas/instances_nas_val2017.json"
val_img = "train2017/"
val_seg = "annotations/panoptic_train2017/"

max_iters = 90000
warmup_iters = 3000
base_lr = 0.02
window = 12  # paths per step, the least common multiple of 4, 6 and 3 choices
checkpoint_interval = 3000
auto_scale_lr = dict(enable=False, base_batch_size=16, accumulative_counts="$window")

find_unused_parameters = True  # the other paths
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="SupernetOptimWrapperConstructor",
    optimizer=dict(type="SGD", lr="$base_lr", momentum=0.9, weight_decay=1e-4),
    accumulative_counts="$window",
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0, legacy_bias_lr=True),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end="$warmup_iters+1"),
    dict(type="CosineAnnealingLR", by_epoch=False, begin="$warmup_iters", end="$max_iters"),
]
train_cfg = dict(type="IterTrainLoop", max_iters="$max_iters", val_begin="$max_iters+1")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
custom_hooks = [
    dict(type="NonFiniteLossHook"),
    dict(type="StopSignalHook"),
    dict(type="DataErrorSummaryHook"),
    dict(type="SupernetPathHook", space="$search_space", sampler="fair"),
]
