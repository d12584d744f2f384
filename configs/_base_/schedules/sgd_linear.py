# SGD whose learning rate falls linearly to 0, weight decay on weights of more than one dimension:
# the schedule of DetNAS's ImageNet training.
max_iters = 300000
base_lr = 0.5
val_interval = "$max_iters"
checkpoint_interval = 5000
auto_scale_lr = dict(
    enable=False, base_batch_size=1024
)  # images per iteration that the numbers are for

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr="$base_lr", momentum=0.9, weight_decay=4e-5),
    # Of one dimension are biases and the weights of norm layers.
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
# `end` is one past the usual value, so that the rate does not reach 0 one iteration early.
param_scheduler = [dict(type="PolyLR", power=1.0, by_epoch=False, begin=0, end="$max_iters+1")]
train_cfg = dict(type="IterTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
