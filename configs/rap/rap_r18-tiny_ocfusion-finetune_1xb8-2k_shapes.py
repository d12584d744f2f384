"""OCFusion's occlusion head on a trained thin Panoptic FPN, generated dataset.

Paper: Learning Instance Occlusion for Panoptic Segmentation, CVPR 2020, https://arxiv.org/abs/1906.05896
Reproduces: nothing published; shows within minutes that the head learns who lies in front
Published: -
Measured: PQ 78.5 (things 69.7, stuff 88.9), heuristic 78.4 (69.6); 86.1 % of pairs ordered rightly
Hardware: 2 CPU cores
Command: python tools/train.py configs/rap/rap_r18-tiny_ocfusion-finetune_1xb8-2k_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./panoptic-fpn_r18-tiny.py",
    "./rap-occlusion.py",
]

max_iters = 2000
base_lr = 1e-3
with_instances = True
# From tools/dataset_converters/coco_relations.py --matching segment_id --front depth
# --overlap-thr 0.05, see docs/relations.md.
train_instances = "annotations/instances_train_with_relation.json"
train_dataloader = dict(dataset=dict(instances_file="$train_instances", filter_unrelated=True))
load_from = "work_dirs/panoptic-fpn_r18-tiny_1xb8-1k_shapes/iter_1000.pth"

head_in_channels = 64
head_channels = 64
head_fc_channels = 256
head_samples = 32
# Duplicates of one thing are no pairs in training: the head must be sure before it moves pixels.
occlusion_thr = 0.8
model = {{_base_.occlusion}}
