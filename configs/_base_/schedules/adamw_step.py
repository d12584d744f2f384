# AdamW, two steps of a tenth near the end, no warm-up: Mask2Former on COCO.
_base_ = "./adam_poly.py"

weight_decay = 0.05
max_norm = 0.01  # of the gradient of the whole model
milestones = ["$max_iters*8/9", "$max_iters*26/27"]
auto_scale_lr = dict(base_batch_size=16)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$base_lr", weight_decay="$weight_decay"),
    clip_grad=dict(max_norm="$max_norm"),
)
param_scheduler = [
    dict(type="MultiStepLR", gamma=0.1, by_epoch=False, milestones="$milestones"),
]
