# AdamW, linear warm-up, poly 0.9: the schedule of mask transformers.
_base_ = "./adam_poly.py"

weight_decay = 0.05
max_norm = 0.01  # of the gradient of the whole model
auto_scale_lr = dict(base_batch_size=16)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$base_lr", weight_decay="$weight_decay"),
    clip_grad=dict(max_norm="$max_norm"),
)
