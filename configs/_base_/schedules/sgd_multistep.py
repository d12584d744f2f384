# SGD with linear warm-up and steps of a tenth: the schedule of detectors.
max_iters = 90000
milestones = ["$max_iters*6/9", "$max_iters*8/9"]
warmup_iters = 500
warmup_factor = 1 / 3
base_lr = 2e-2
weight_decay = 1e-4
clip_grad = dict(max_norm=35, norm_type=2)
val_interval = "$max_iters"
checkpoint_interval = 5000
auto_scale_lr = dict(
    enable=False, base_batch_size=16
)  # images per iteration that the numbers are for

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr="$base_lr", momentum=0.9, weight_decay="$weight_decay"),
    clip_grad="$clip_grad",
)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor="$warmup_factor",
        by_epoch=False,
        begin=0,
        end="$warmup_iters",
    ),
    dict(type="MultiStepLR", gamma=0.1, by_epoch=False, milestones="$milestones"),
]
train_cfg = dict(type="IterTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
