"""Stage 2, search: path priority over 60 candidates of the fine-tuned supernet.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119
Reproduces: the search in `scripts/architecture_search.sh` of the published code: 5 cycles of 12
    candidates, PQ on 5000 images of train2017. Published were 500 batches of recalibration with
    the running average of the norms: calibration=dict(num_batches=500, mode="ema").
Published: the found architecture is that of auto-panoptic_coco-3.8g
Measured: -
Hardware: 8 GPUs; or any number of machines with any number of processes that share search_storage
Command: tools/dist_train.sh configs/auto_panoptic/auto-panoptic_search-1.3g_8xb2-60c_coco-nas.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./auto-panoptic.py",
]

load_from = "work_dirs/auto-panoptic_supernet-1.3g_8xb2-90k_coco-nas/iter_90000.pth"

# tools/dataset_converters/coco_nas_split.py makes the files.
train_ann_file = "nas/panoptic_nas_train2017.json"
train_instances = "nas/instances_nas_train2017.json"
val_ann_file = "nas/panoptic_nas_val2017.json"
val_instances = "nas/instances_nas_val2017.json"
val_img = "train2017/"
val_seg = "annotations/panoptic_train2017/"

search_folder = None  # work_dir/search
search_storage = None  # sqlite in search_folder; a shared one shares the work
train_dataloader = dict(persistent_workers=False)  # the same batches for every candidate
param_scheduler = auto_scale_lr = None
train_cfg = dict(
    _delete_=True,
    type="PathPrioritySearchLoop",
    space="$search_space",
    fitness="coco_panoptic/PQ",
    cycles=5,
    scorer="rank",
    calibration=dict(num_batches=60, mode="mean"),
    cost=dict(input_size=(800, 1344), box_rois=1000, mask_rois=100),
    constraints=None,  # dict(macs=(None, 4e11), params=(None, 5e7)) for instance
    folder="$search_folder",
    storage="$search_storage",
    top_k=3,
    export_configs=dict(
        pretrain="auto-panoptic_coco-3.8g_8xb64-600k_imagenet.py",
        retrain="auto-panoptic_coco-3.8g_8xb2-90k_coco.py",
    ),
)
custom_hooks = [dict(type="DataErrorSummaryHook")]
