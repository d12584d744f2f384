# Your own data, from a pretrained backbone, which learns more slowly than the heads.
_base_ = "./adam_poly.py"

max_iters = 5000
checkpoint_interval = 1000
val_interval = "$max_iters*1/5"
warmup_iters = 50
# Of the heads: with 1e-3 the semantic loss of a short run on photographs fell half as fast.
base_lr = 2e-3
backbone_lr_mult = 0.1
auto_scale_lr = dict(base_batch_size=4)

optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult="$backbone_lr_mult")))
)
