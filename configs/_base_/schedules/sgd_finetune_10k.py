# 10k iterations of a head on a frozen model: the fine-tuning schedule of RAP. Biases learn twice as
# fast and do not decay.
max_iters = 10000
base_lr = 0.002
# Iteration of the drop to a tenth. The published configs intend 5000 (155k of 160k); in the
# published runs it never came, since the schedule's counter started anew, so the end is "never".
drop_at = "$max_iters"
val_interval = "$max_iters"
checkpoint_interval = 5000
auto_scale_lr = dict(
    enable=False, base_batch_size=16
)  # images per iteration that the numbers are for

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr="$base_lr", momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={".bias": dict(lr_mult=2.0, decay_mult=0.0)}),
)
param_scheduler = [
    dict(type="MultiStepLR", milestones=["$drop_at"], gamma=0.1, by_epoch=False),
]
train_cfg = dict(type="IterTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
