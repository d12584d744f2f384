# SGD with weight decay outside norm layers, linear warm-up, poly 0.9: the schedule of DeepLabV3+.
max_iters = 90000
warmup_iters = 1000
base_lr = 1e-2
val_interval = "$max_iters"
checkpoint_interval = 5000
auto_scale_lr = dict(
    enable=False, base_batch_size=16
)  # images per iteration that the numbers are for

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr="$base_lr", momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
# Each `end` is one past the usual value; see adam_poly.py.
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end="$warmup_iters+1"),
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=0, end="$max_iters+1"),
]
train_cfg = dict(type="IterTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
