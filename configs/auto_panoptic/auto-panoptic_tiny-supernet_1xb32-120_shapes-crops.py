"""Stage 1 in miniature: a supernet of the backbone on crops of the generated dataset's things.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119
Reproduces: nothing published; shows within minutes that the whole chain learns
Published: -
Measured: see configs/auto_panoptic/README.md
Hardware: 2 CPU cores
Command: python tools/train.py
    configs/auto_panoptic/auto-panoptic_tiny-supernet_1xb32-120_shapes-crops.py
"""

_base_ = [
    "../_base_/datasets/image_folders.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/default_runtime.py",
    "./auto-panoptic-classifier_tiny.py",
]

# tools/dataset_converters/thing_crops.py makes the folders.
data_root = "data/shapes-crops"
dataset_type = "ImageFolderDataset"
metainfo = dict(classes=("cross", "disk", "ring", "square", "star", "triangle"))
image_size = 64
resize_size = 64
batch_size = 32
num_workers = 1
max_iters = 120
warmup_iters = 20
auto_scale_lr = dict(base_batch_size=32)

val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator

train_cfg = dict(val_begin="$max_iters+1")  # a supernet has no path to validate
custom_hooks = [
    dict(type="NonFiniteLossHook"),
    dict(type="StopSignalHook"),
    dict(type="DataErrorSummaryHook"),
    dict(type="SupernetPathHook", space="$search_space", sampler="uniform"),
]
