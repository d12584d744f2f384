"""Search in miniature: 12 candidates of the supernet on the generated dataset.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119
Reproduces: nothing published; shows within minutes that the whole chain works
Published: -
Measured: see configs/auto_panoptic/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/auto_panoptic/auto-panoptic_tiny-search_1xb8-12c_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/default_runtime.py",
    "./auto-panoptic_tiny.py",
]

load_from = "work_dirs/auto-panoptic_tiny-supernet_1xb4-300_shapes/iter_300.pth"
search_folder = None  # work_dir/search
search_storage = None  # sqlite in search_folder; a shared one shares the work
num_images = 40
with_instances = True
train_dataloader = dict(persistent_workers=False)  # the same batches for every candidate
val_dataloader = dict(persistent_workers=False, dataset=dict(indices="$num_images"))
param_scheduler = auto_scale_lr = None
train_cfg = dict(
    _delete_=True,
    type="PathPrioritySearchLoop",
    space="$search_space",
    fitness="coco_panoptic/PQ",
    cycles=4,  # of three candidates
    scorer="ridge",
    calibration=dict(num_batches=8, mode="mean", cache=True),
    cost=dict(input_size=(128, 192), box_rois=200, mask_rois=50),
    folder="$search_folder",
    storage="$search_storage",
    top_k=3,
    export_configs=dict(
        pretrain="auto-panoptic_tiny_1xb32-120_shapes-crops.py",
        retrain="auto-panoptic_tiny_1xb8-500_shapes.py",
    ),
)
custom_hooks = [dict(type="DataErrorSummaryHook")]
