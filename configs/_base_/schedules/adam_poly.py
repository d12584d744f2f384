# Adam without weight decay, linear warm-up, poly 0.9: the schedule of Panoptic-DeepLab.
max_iters = 90000
warmup_iters = 1000
base_lr = 1e-3
val_interval = "$max_iters"
checkpoint_interval = 5000
auto_scale_lr = dict(
    enable=False, base_batch_size=32
)  # images per iteration that the numbers are for

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="Adam", lr="$base_lr", betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0),
)
# Each `end` is one past the usual value; so the learning rate of every iteration equals the
# published one (with `end=max_iters` mmengine reaches zero one iteration early).
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end="$warmup_iters+1"),
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=0, end="$max_iters+1"),
]
train_cfg = dict(type="IterTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
