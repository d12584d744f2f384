"""Search in miniature: 12 candidates of the supernet on the generated dataset.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119
Reproduces: nothing published; shows within minutes that the whole chain works
Published: -
Measured: see configs/auto_panoptic/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/auto_panoptic/auto-panoptic_tiny-search_1xb8-12c_shapes.py
    --cfg-options load_from=STAGE_2.pth
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/default_runtime.py",
    "./auto-panoptic_tiny.py",
]

search_folder = None  # work_dir/search; a shared folder shares the work
num_images = 40
with_instances = True
train_dataloader = dict(persistent_workers=False)  # the same batches for every candidate
val_dataloader = dict(persistent_workers=False, dataset=dict(indices="$num_images"))
param_scheduler = None
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
    top_k=3,
    export_configs=dict(
        pretrain="auto-panoptic_tiny_1xb32-120_shapes-crops.py",
        retrain="auto-panoptic_tiny_1xb8-500_shapes.py",
    ),
)
custom_hooks = [dict(type="DataErrorSummaryHook")]
