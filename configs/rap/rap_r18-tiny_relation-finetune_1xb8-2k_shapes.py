"""RAP: relation-aware head on a trained thin Panoptic FPN, generated dataset.

Paper: RAP, relation-aware panoptic segmentation
Reproduces: nothing published; shows within minutes that the head learns who lies in front
Published: -
Measured: PQ 78.8 (things 70.4, stuff 88.9), heuristic 78.4 (69.6); 89.5 % of pairs ordered rightly
Hardware: 2 CPU cores
Command: python tools/train.py configs/rap/rap_r18-tiny_relation-finetune_1xb8-2k_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./panoptic-fpn_r18-tiny.py",
    "./rap-relation.py",
]

max_iters = 2000
base_lr = 1e-3
with_instances = True
# From tools/dataset_converters/coco_relations.py --matching segment_id --front depth
# --overlap-thr 0.05, see docs/relations.md.
train_instances = "annotations/instances_train_with_relation.json"
train_dataloader = dict(dataset=dict(instances_file="$train_instances", filter_unrelated=True))
load_from = "work_dirs/panoptic-fpn_r18-tiny_1xb8-1k_shapes/iter_1000.pth"

head_channels = 64
head_fc_channels = 256
ranked_score = 0.0
painted_score = 0.5
overlap_thr = 0.5
model = {{_base_.relation}}
