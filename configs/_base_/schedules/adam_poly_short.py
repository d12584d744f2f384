# The short schedule of the small models on generated data: minutes on two CPU cores.
_base_ = "./adam_poly.py"

max_iters = 500
warmup_iters = 50
base_lr = 3e-3
checkpoint_interval = 250
val_interval = "$max_iters*1/5"
auto_scale_lr = dict(base_batch_size=8)
