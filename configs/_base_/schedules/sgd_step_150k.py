# SGD with momentum; linear warm-up; a tenth at 80k and 120k of 150k iterations of 16 images: the
# schedule of RAP. Biases learn twice as fast and do not decay.
max_iters = 150000
# The published run counts from 1: its first iteration is one step into the warm-up, and the drops
# come one iteration earlier than the numbers say.
milestones = ["$max_iters*8/15-1", "$max_iters*12/15-1"]
base_lr = 0.02
val_interval = "$max_iters"
checkpoint_interval = 10000
auto_scale_lr = dict(
    enable=False, base_batch_size=16
)  # images per iteration that the numbers are for

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr="$base_lr", momentum=0.9, weight_decay=1e-4),
    # `bias_lr_mult` would leave out norm layers and the offsets of deformable convolutions.
    paramwise_cfg=dict(custom_keys={".bias": dict(lr_mult=2.0, decay_mult=0.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 3 + 2 / 3 / 500, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", milestones="$milestones", gamma=0.1, by_epoch=False),
]
train_cfg = dict(type="IterTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
